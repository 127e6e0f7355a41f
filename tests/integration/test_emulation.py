"""An emulated site on this machine: its process reaches the store through its link alone, and nothing of it stays."""

from __future__ import annotations

import os
import signal

import pytest

from infra import keys, mailbox
from infra.emulation import namespaces, speeds
from infra.emulation.world import Spec, emulated
from tests.homes import wait_for

pytestmark = pytest.mark.integration

WARD = Spec(name="emulated-1", share=0.5, up=2e6, down=2e6, latency=0.02)


def other_than(seen, store):
    """The last sign of life, if it is of another process."""
    found = mailbox.read_presence(store, WARD.name)
    return found if found.pid != seen.pid else None


@pytest.mark.parametrize("as_root", [True, False])
def test_a_site_behind_a_link_and_everything_taken_down(up_store, up_variables, tmp_path, monkeypatch, as_root):
    if as_root and (reason := namespaces.why_not()):
        pytest.skip(reason)
    if not as_root:
        monkeypatch.setattr(namespaces, "why_not", lambda: "it is not wanted")
        monkeypatch.setattr(speeds, "group_root", lambda: None)
    up_store.delete(keys.presence(WARD.name))
    with emulated([WARD], up_variables["AWS_ENDPOINT_URL"], tmp_path, up_variables) as (sites, means):
        site = sites[WARD.name]
        site.set_share(1.5)
        seen = wait_for("a sign of life", lambda: mailbox.read_presence(up_store, WARD.name))
        assert (seen.site, seen.host) == (WARD.name, WARD.name)
        wait_for("the relay's count", lambda: min(site.passed()) > 0)
        assert ("tbf" in means.links) == as_root
        assert ("quota" in means.speed) is (speeds.group_root() is not None)
        site.kill()
        site.start()
        again = wait_for("another process", lambda: other_than(seen, up_store))
        os.kill(again.pid, signal.SIGKILL)  # nobody asked for it: whoever holds it starts it again
        wait_for("a third", lambda: mailbox.read_presence(up_store, WARD.name).pid not in (seen.pid, again.pid))
        processes = [site.process.pid, site.link.pid]
    for pid in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert namespaces.sweep() == []
    if as_root:
        assert not [name for name in namespaces.listed() if f"-{os.getpid()}-" in name]
