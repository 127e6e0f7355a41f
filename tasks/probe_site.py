"""Measure a site: rows a second of its variant at the fastest batch, its link to the store, its machine."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.nouns import Profile, Site, VariantCard, VariantSpeed
from infra import cascade, sites, storage
from infra.progress import publish
from infra.runtimes import RUNTIMES

BATCHES = (32, 64, 128, 256)
PROBE_SECONDS = 0.15
PROBE_BYTES = 2 << 20


def probe_site(site: Site, card: VariantCard, home: Path, bucket: str) -> Profile:
    """The site's profile with this variant in it.

    Args:
        site: which one; must be this machine.
        card: the variant that it would run.
        home: the sites' folder on this machine.
        bucket: of the store.
    """
    store = storage.open_store(bucket)
    folder = home / "sites" / site.name
    model, _ = sites.cached_model(store, card, folder)
    up, down, latency = _measure_link(store, site.name)
    before = sites.read_profile(store, site.name)
    publish("probe", site.name, 1, 1, "profiles")
    return Profile(
        site=site.name,
        host=sites.host_name(),
        cores=sites.core_count(),
        memory_bytes=sites.memory_bytes(),
        disk_free_bytes=sites.disk_free_bytes(folder),
        up_bytes_per_second=up,
        down_bytes_per_second=down,
        latency_seconds=latency,
        dispatch_seconds=before.dispatch_seconds if before else 0.0,
        variants=(before.variants if before else {}) | {card.digest: measure_speed(card, model)},
        runtime_versions={card.runtime: RUNTIMES.get(card.runtime).version()},
        measured_at=time.time(),
    )


def measure_speed(card: VariantCard, model: bytes) -> VariantSpeed:
    """The fastest batch of one thread, as the engine computes: logits, class and confidence."""
    x = np.random.default_rng(0).integers(0, 255, (max(BATCHES) * 2, *card.shape)).astype(card.dtype)
    best, startup = (0.0, BATCHES[0]), 0.0
    for batch in BATCHES:
        begun = time.perf_counter()
        predict = RUNTIMES.get(card.runtime).load(model, batch)
        predict(x[:batch])
        startup = startup or time.perf_counter() - begun
        rows, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < PROBE_SECONDS:
            cascade.answer(predict(x), card.temperature)
            rows += len(x)
        best = max(best, (rows / (time.perf_counter() - begun), batch))
    return VariantSpeed(rows_per_second=best[0], batch=best[1], startup_seconds=startup)


def _measure_link(store: storage.Store, site: str) -> tuple[float, float, float]:
    """Bytes a second up and down, and seconds to read and write a small object (medians of three)."""
    key = f"sites/{site}/probe"
    data, small = os.urandom(PROBE_BYTES), b"small"
    up, down, latency = [], [], []
    for _ in range(3):
        begun = time.perf_counter()
        store.put(key, data)
        put = time.perf_counter()
        store.get(key)
        got = time.perf_counter()
        store.put(key, small)
        store.get(key)
        up.append(PROBE_BYTES / (put - begun))
        down.append(PROBE_BYTES / (got - put))
        latency.append((time.perf_counter() - got) / 2)
    store.delete(key)
    return float(np.median(up)), float(np.median(down)), float(np.median(latency))


probe_site_task = task(name="probe", task_run_name="probe {site.name}", cache_policy=NO_CACHE)(probe_site)
