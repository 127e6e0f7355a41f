"""Every generator of the registry through its published suite, new files included."""

from __future__ import annotations

import pytest

from infra.generators import GENERATORS
from infra.testing import generator_suite

pytestmark = pytest.mark.conformance


@pytest.mark.parametrize("check", generator_suite.CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("name", GENERATORS.names())
def test_generator(name, check):
    check(GENERATORS.get(name))
