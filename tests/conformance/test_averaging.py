"""Every average of the registry through its published suite, new files included."""

from __future__ import annotations

import pytest

from infra.averaging import AVERAGES
from infra.testing import averaging_suite

pytestmark = pytest.mark.conformance


@pytest.mark.parametrize("check", averaging_suite.CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("name", AVERAGES.names())
def test_average(name, check):
    check(AVERAGES.get(name))
