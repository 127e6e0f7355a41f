"""Every transform of the registry through its published suite, new files included."""

from __future__ import annotations

import pytest

from infra.testing import transform_suite
from infra.transforms import TRANSFORMS

pytestmark = pytest.mark.conformance


@pytest.mark.parametrize("check", transform_suite.CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("name", TRANSFORMS.names())
def test_transform(name, check):
    check(TRANSFORMS.get(name))
