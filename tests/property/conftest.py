"""Hypothesis here looks for wrong answers, not for slow ones: no deadline, no check that reads a clock."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("cloudedge", deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
settings.load_profile("cloudedge")
