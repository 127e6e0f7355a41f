"""Sites as processes of their own: a whole run, a process killed in the middle, shards that never leave."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from infra import keys
from tests.homes import MANY_SHARDS, environment, wait_for

pytestmark = pytest.mark.chaos

SITE = "tier: edge\nthreads: 1\ndispatch: mailbox\n"


@contextmanager
def site_process(name: str, home: Path, variables: dict[str, str]):
    """`cloudedge site work NAME` in a home of its own, as on another machine."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cloudedge", "site", "work", name], cwd="/", text=True,
        env=environment(home, **variables | {"CLOUDEDGE_HOME": str(home)}), stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


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


def test_a_site_that_is_cut_off_does_its_work_and_is_reconciled(
    up_home, up_store, up_variables, quick_run, posted, tmp_path
):
    """It has its order, and the run does not wait for it: what it answers later is sent once, and settles the run."""
    born = (posted / "datasets" / "posted.yaml").read_text().replace("shard_rows: 100", "shard_rows: 300")
    (posted / "datasets" / "cut-off.yaml").write_text(born)
    command = ("run", "--json", "--dataset", "cut-off", "--model", "quick", "--catalog", str(posted))
    with (
        site_process("post-1", tmp_path / "1", up_variables) as cut,
        site_process("post-2", tmp_path / "2", up_variables),
    ):
        before = {*up_store.keys("runs")}
        run = up_home.start(*command, "--deadline", "60s")
        wait_for("the order", lambda: any(
            key.endswith("/answers/compress-post-1.json") for key in {*up_store.keys("runs")} - before
        ))  # fmt: skip
        cut.send_signal(signal.SIGSTOP)
        out, err = run.communicate(timeout=300)
        assert run.returncode == 3, err
        partial = json.loads(out)
        assert partial["status"] == "partial"
        assert partial["open_reasons"]["post-1"] == "no answer by the deadline"
        cut.send_signal(signal.SIGCONT)
        receipt = keys.run(partial["run_id"], "receipts", "post-1.json")
        wait_for("the work of the site that was cut off", lambda: up_store.exists(receipt))
        up_home.call("reconcile", partial["run_id"])
    report = json.loads(up_store.get(partial["report_key"]))
    assert (report["status"], report["rows_out"], report["pending_rows"]) == ("complete", 5000, 0)
    answered = json.loads(up_store.get(keys.run(partial["run_id"], "answers", "answer-post-1.json")))
    orders = [key.rpartition("/")[2] for key in up_store.keys(keys.run(partial["run_id"], "orders"))]
    assert not [name for name in orders if name.startswith("post-1.")], "nothing was asked of it again"
    line = next(line for line in report["sites"] if line["name"] == "post-1")
    assert line["rows"] == 2500
    # all that its work sent, once; the rest is what it was asked before it was cut off
    sent = next(line for line in partial["sites"] if line["name"] == "post-1")["wan_bytes"]
    assert line["wan_bytes"] - sent <= 1.01 * (answered["wan_in"] + answered["wan_out"])
