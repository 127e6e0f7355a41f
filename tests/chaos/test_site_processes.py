"""Sites as processes of their own: a whole run, a process killed in the middle, shards that never leave."""

from __future__ import annotations

import json
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from infra import keys
from tests.homes import MANY_SHARDS, site_process, wait_for

pytestmark = pytest.mark.chaos

SITE = "tier: edge\nthreads: 1\ndispatch: mailbox\n"


@pytest.fixture(scope="module")
def posted(tmp_path_factory) -> Path:
    """A catalog with two sites that have a mailbox and a dataset that is born there."""
    folder = tmp_path_factory.mktemp("posted")
    for kind in ("sites", "datasets"):
        (folder / kind).mkdir()
    for number in (1, 2):
        (folder / "sites" / f"post-{number}.yaml").write_text(SITE)
    born = MANY_SHARDS.replace("edge-", "post-").replace("shard_rows: 40", "shard_rows: 100")
    (folder / "datasets" / "posted.yaml").write_text(born)
    return folder


def test_a_site_killed_in_mid_run_and_started_again(up_home, up_store, up_variables, quick_run, posted, tmp_path):
    command = ("run", "--json", "--dataset", "posted", "--model", "quick", "--catalog", str(posted))
    with ExitStack() as stack:
        second = stack.enter_context(site_process("post-2", tmp_path / "2", up_variables))
        with site_process("post-1", tmp_path / "1", up_variables) as first:
            before = {*up_store.keys("results")}
            run = up_home.start(*command)
            wait_for("a result of a site", lambda: len({*up_store.keys("results")} - before) > 3)
            first.send_signal(signal.SIGKILL)
            first.wait()
        first = stack.enter_context(site_process("post-1", tmp_path / "1", up_variables))
        out, err = run.communicate(timeout=300)
        assert run.returncode == 0, err
        assert (first.poll(), second.poll()) == (None, None)
    report = json.loads(out)
    assert (report["status"], report["rows_out"]) == ("complete", 5000)
    assert (report["missing_rows"], report["duplicate_rows"]) == (0, 0)
    lines = {line["name"]: line for line in report["sites"]}
    assert lines["post-1"]["rows"] + lines["post-2"]["rows"] == 5000
    # the shards of an edge stay on its disk: the store has their indexes, their results and what was escalated
    assert not up_store.keys(keys.shards("posted"))
    for number in (1, 2):
        kept = [*(tmp_path / str(number) / "sites" / f"post-{number}" / "premises").rglob("*.arrow.*")]
        assert len(kept) == 25
    crossed = sum(line["wan_bytes"] for line in lines.values())
    assert 0 < report["raw_bytes"] - crossed < report["raw_bytes"]
    assert up_store.keys(keys.run(report["run_id"], "answers"))
