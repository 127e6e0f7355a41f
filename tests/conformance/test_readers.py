"""Every reader of the registry through its published suite, new files included."""

from __future__ import annotations

import pytest

from infra.readers import READERS
from infra.testing import reader_suite

pytestmark = pytest.mark.conformance


@pytest.mark.parametrize("check", reader_suite.CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("name", READERS.names())
def test_reader(name, check, tmp_path):
    check(READERS.get(name), tmp_path)
