"""Every placement rule of the registry through its published suite, new files included."""

from __future__ import annotations

import pytest

from infra.placement import RULES
from infra.testing import placement_suite

pytestmark = pytest.mark.conformance


@pytest.mark.parametrize("check", placement_suite.CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("name", RULES.names())
def test_rule(name, check):
    check(RULES.get(name))
