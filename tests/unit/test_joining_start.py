"""How `cloudedge site join` starts the site's process where systemd runs: with a `systemctl` that notes what it is asked."""

from __future__ import annotations

import os

import pytest

from cloudedge import joining
from data_catalog.errors import BadInput
from infra.security import pairs

pytestmark = pytest.mark.unit

SYSTEMCTL = """#!/bin/sh
echo "$@" >> "{asked}"
case "$*" in *"{fails}"*) echo "Failed to {fails} unit:" >&2; echo "no such bus" >&2; exit 1;; esac
"""


@pytest.fixture
def start(monkeypatch, tmp_path):
    """Start ward-1 with that `systemctl`; what it was asked, and what is said."""
    monkeypatch.setattr(joining, "BOOTED", tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "bin").mkdir()
    pairs.folder(tmp_path, "ward-1").mkdir(parents=True)
    unit = joining._write_unit(tmp_path, "ward-1")

    def call(fails="nothing"):
        stub = tmp_path / "bin" / "systemctl"
        stub.write_text(SYSTEMCTL.format(asked=tmp_path / "asked", fails=fails))
        stub.chmod(0o755)
        try:
            return joining._start(tmp_path, "ward-1", unit)
        finally:
            assert not (tmp_path / "logs").exists()  # no process was started beside it

    return call


@pytest.mark.parametrize(("number", "whose"), [(0, ""), (1000, "--user ")])
def test_the_unit_is_linked_enabled_and_started(start, monkeypatch, tmp_path, number, whose):
    monkeypatch.setattr(os, "geteuid", lambda: number)
    said = start()
    unit = pairs.folder(tmp_path, "ward-1") / "cloudedge-site-ward-1.service"
    assert (tmp_path / "asked").read_text().splitlines() == [
        f"{whose}link --force {unit}",
        f"{whose}enable --now {unit.name}",
    ]
    assert said == f"started by systemd: systemctl {whose}status {unit.name}"


@pytest.mark.parametrize("fails", ["link", "enable"])
def test_what_systemd_refuses_is_said_in_one_line(start, fails):
    with pytest.raises(
        BadInput, match=rf"{fails} .*failed \(Failed to {fails} unit: no such bus\); mend that and join again"
    ):
        start(fails)
