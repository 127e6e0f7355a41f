"""Every error of the command line: one line, the right exit code, no traceback, and what to do."""

from __future__ import annotations

import pytest

from data_catalog.nouns import Plan
from infra import keys, ledger, shards
from tests.homes import Home, small_disk

pytestmark = pytest.mark.e2e


def one_line(home: Home, *arguments: str, code: int, says: tuple[str, ...], **more: str) -> str:
    """The error of a command: its last line of standard error, checked."""
    done = home.call(*arguments, code=code, **more)
    assert done.stdout == ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("cloudedge: ")]
    assert len(errors) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for words in says:
        assert words in errors[0], errors[0]
    return errors[0]


@pytest.fixture(scope="module")
def idle(tmp_path_factory) -> Home:
    """A home where nothing ever starts: these errors come before any server."""
    home = Home(tmp_path_factory.mktemp("idle"), {})
    yield home
    assert not (home.path / "s3").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--dataset", "mnist5k"), ("mnist5k", "--dataset", "did you mean 'mnist-5k'")),
        (("--model", "digit"), ("digit", "--model", "did you mean 'digits'")),
        (("--site", "edge-9", "--site", "cloud"), ("edge-9", "--site", "did you mean 'edge-")),
        (("--bound", "2"), ("--bound", "2")),
        (("--confidence", "1"), ("--confidence", "1")),
        (("--escalate-at-most", "9 lives"), ("--escalate-at-most", "9 lives", "50kB")),
        (("--catalog", "/nowhere"), ("/nowhere", "does not exist")),
        (("--nonsense",), ("--nonsense",)),
    ],
)
def test_bad_arguments(idle, arguments, says):
    one_line(idle, "run", *arguments, code=2, says=says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tier: edge\n  threads: 1\n", ("broken YAML", "line 2")),
        ("tier: fog\n", ("key `tier`",)),
        ("tier: edge\nthread: 2\n", ("key `thread`", "unknown")),
        ("- edge\n", ("holds no keys",)),
    ],
)
def test_a_broken_yaml(idle, tmp_path, text, says):
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "edge-1.yaml").write_text(text)
    one_line(idle, "run", "--catalog", str(tmp_path), code=2, says=("sites/edge-1.yaml", *says))


def test_who_may_not_is_told_the_rule(idle, tmp_path):
    """Before any server starts; the shipped policy opens restricted data to the owner of the home alone."""
    run = ("run", "--dataset", "synthetic-chest-xray", "--model", "chest-xray")
    says = ("ann may not run synthetic-chest-xray (restricted)", "no rule of policy.csv allows it")
    one_line(idle, *run, code=2, says=says, CLOUDEDGE_USER="ann")
    rules = tmp_path / "rules.csv"
    rules.write_text("p, *, *, *, *, *, *, *, allow\np, role:guest, *, *-xray, *, *, *, *, deny\ng, ann, role:guest\n")
    says = ("ann may not run", "rules.csv line 2: p, role:guest", "denies it")
    one_line(idle, *run, code=2, says=says, CLOUDEDGE_USER="ann", CLOUDEDGE_POLICY=str(rules))
    rules.write_text("p, everyone\n")
    one_line(idle, "run", code=2, says=("rules.csv line 1", "correct that line"), CLOUDEDGE_POLICY=str(rules))


def test_half_a_configuration(idle):
    one_line(idle, "run", code=2, says=("CLOUDEDGE_BUCKET",), AWS_ENDPOINT_URL="http://127.0.0.1:1")


def test_a_store_that_refuses_the_key(up_home, up_variables):
    wrong = up_variables | {"AWS_SECRET_ACCESS_KEY": "wrong"}
    del wrong["CLOUDEDGE_HOME"]
    one_line(up_home, "run", code=2, says=("refused", "AWS_SECRET_ACCESS_KEY"), **wrong)


def test_a_bucket_that_is_not_there(up_home, up_variables):
    wrong = up_variables | {"CLOUDEDGE_BUCKET": "not-there"}
    del wrong["CLOUDEDGE_HOME"]
    one_line(up_home, "run", code=2, says=("not-there", "CLOUDEDGE_BUCKET"), **wrong)


def test_a_store_that_is_gone(up_home, up_variables):
    wrong = up_variables | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    del wrong["CLOUDEDGE_HOME"]
    one_line(up_home, "run", code=1, says=("gave no answer", "AWS_ENDPOINT_URL"), **wrong)


def test_a_prefect_server_that_is_gone(tmp_path, up_variables):
    wrong = {name: up_variables[name] for name in up_variables if name.startswith("AWS_") or name == "CLOUDEDGE_BUCKET"}
    one_line(
        Home(tmp_path, {}), "run", code=1, says=("Prefect", "http://127.0.0.1:1/api", "gave no answer"),
        PREFECT_API_URL="http://127.0.0.1:1/api", **wrong,
    )  # fmt: skip


def test_a_prefect_server_that_refuses_us(tmp_path, up_variables):
    wrong = up_variables | {"PREFECT_API_AUTH_STRING": "admin:wrong"}
    one_line(
        Home(tmp_path, {}),
        "run",
        code=2,
        says=("Prefect", "refused", "401"),
        **{k: v for k, v in wrong.items() if k != "CLOUDEDGE_HOME"},
    )


def forget_results(store) -> None:
    """An empty ledger: the next run has to read its shards again."""
    for key in store.keys("results"):
        store.delete(key)


def test_a_corrupt_shard_in_the_store(quick_run, up_home, up_store):
    """The index is right, the object is not: it is named, nothing is answered from it, and the remedy helps."""
    plan = Plan.model_validate_json(up_store.get(keys.run(quick_run["run_id"], "plan.json")))
    shard = plan.placements[0].key
    whole = up_store.get(shard)
    up_store.put(shard, whole[: len(whole) // 2])
    forget_results(up_store)
    one_line(up_home, "run", "--model", "quick", code=1, says=(shard, "corrupt", "delete that object"))
    up_store.delete(shard)
    assert up_home.run("--model", "quick")["accuracy"] == quick_run["accuracy"]
    born = plan.placements[0].shard
    stored = {keys.shard_of(key): key for key in up_store.keys(keys.shards("mnist-5k"))}
    again = {codec: key for (digest, codec), key in stored.items() if digest == born.digest}
    assert again  # perhaps under another codec than before: they are measured again
    for codec, key in again.items():
        shards.unpack(up_store.get(key), codec, born.bytes, born.digest, key)
    up_store.put(shard, whole)  # orders of earlier runs name it


def test_a_corrupt_model_in_the_store(quick_run, up_home, up_store):
    card = quick_run["variants"]["edge"]
    whole = up_store.get(card["key"])
    for path in (up_home.path / "sites").glob(f"*/models/{card['digest']}"):
        path.unlink()
    forget_results(up_store)
    up_store.put(card["key"], whole[:-1] + b"!")
    says = one_line(up_home, "run", "--model", "quick", code=1, says=(card["key"], "corrupt", "run again"))
    named = next(word for word in says.split() if word.endswith("card.json"))
    up_store.delete(named)
    assert up_home.run("--model", "quick")["status"] == "complete"  # trained again


@pytest.mark.parametrize("prefix", ["escalations", "datasets/mnist-5k/records", "datasets/mnist-5k/index"])
def test_what_is_gone_from_the_store_is_made_again(quick_run, up_home, up_store, prefix):
    before = up_home.run("--model", "quick")
    there = up_store.keys(prefix)
    assert there
    for key in there:
        up_store.delete(key)
    after = up_home.run("--model", "quick")
    assert after["accuracy"] == before["accuracy"]
    assert after["computed_results"] == 0
    assert set(up_store.keys(prefix)) <= set(there)


def test_a_missing_row_in_the_ledger(quick_run, up_home, up_store):
    """Somebody cut a result: whole as Parquet, but a row short. It fails by name, and never counts as done."""
    plan_key = max(key for key in up_store.keys("runs") if key.endswith("plan.json"))
    plan = Plan.model_validate_json(up_store.get(plan_key))
    key = keys.result(plan.placements[0].result)
    table = ledger.read_result(up_store.get(key), key)
    lost = table["record_id"][0].as_py()
    up_store.put(key, ledger.parquet(table.slice(1)))
    one_line(up_home, "run", "--model", "quick", code=1, says=(key, "1 missing", lost))
    up_store.delete(key)
    assert up_home.run("--model", "quick")["computed_results"] >= 1


def test_labels_that_the_model_does_not_know(quick_run, up_home, tmp_path):
    (tmp_path / "datasets").mkdir()
    rows = "\n".join(",".join(["7"] * 784 + ["seven"]) for _ in range(3))
    (tmp_path / "strange.csv").write_text(rows + "\n")
    (tmp_path / "datasets" / "strange.yaml").write_text(
        "description: Strange\nlicense: none\nformat: csv\n"
        f"sources: [{{ site: edge-1, uri: {tmp_path}/strange.csv }}]\n"
        "record: { shape: [784], dtype: uint8, label: 784 }\n"
        "transforms: [{ name: reshape, shape: [28, 28, 1] }]\n"
    )
    one_line(
        up_home, "run", "--model", "quick", "--dataset", "strange", "--catalog", str(tmp_path), code=2,
        says=("'seven'", "no class of model quick", "record.label"),
    )  # fmt: skip


def test_a_disk_too_small_to_begin(tmp_path):
    with small_disk(tmp_path / "disk", "3m"):
        home = Home(tmp_path / "disk", {})
        one_line(home, "run", code=1, says=("MiB are free", "CLOUDEDGE_HOME"))
        assert not home.servers()
