"""Every codec of the registry through its published suite, new files included."""

from __future__ import annotations

import pytest

from infra.codecs import CODECS
from infra.testing import codec_suite

pytestmark = pytest.mark.conformance


@pytest.mark.parametrize("check", codec_suite.CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("name", CODECS.names())
def test_codec(name, check):
    check(CODECS.get(name))
