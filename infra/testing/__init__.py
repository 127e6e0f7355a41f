"""Conformance suites: what every plug-in of a family must do, as plain functions that raise AssertionError.

A suite is a module with a tuple `CHECKS`; each check takes the plug-in and perhaps a folder or an example.
Whoever writes a plug-in outside this repository runs the same checks as we do::

    import pytest
    from infra.testing import codec_suite
    import my_codec

    @pytest.mark.parametrize("check", codec_suite.CHECKS)
    def test_my_codec(check):
        check(my_codec)

The suites need pytest and hypothesis, which are development dependencies: nothing else imports this package.
"""
