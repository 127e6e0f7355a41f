"""Every lossy coding of the registry through its published suite."""

from __future__ import annotations

import pytest

from infra.lossy import LOSSY
from infra.testing import lossy_suite

pytestmark = pytest.mark.conformance


@pytest.mark.parametrize("check", lossy_suite.CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("name", LOSSY.names())
def test_lossy(name, check):
    check(LOSSY.get(name))
