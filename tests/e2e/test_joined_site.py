"""A machine joins by a token, works without credentials, and whoever steals it gets nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from data_catalog.nouns import WorkOrder
from infra import enrolment, keys, membership
from infra.security import letters, presigning, signing
from infra.stack import servers
from tests.homes import MANY_SHARDS, environment, wait_for
from tests.planted import in_files, in_prefect, search, secrets_of, secrets_of_token, signatures

pytestmark = pytest.mark.e2e

NAME = "ward-9"
POLICY_VIOLATION = 1008
BORN = MANY_SHARDS.replace("site: edge-1", f"site: {NAME}").replace("shard_rows: 40", "shard_rows: 500")


def command(home, *arguments):
    """The command on a machine that has nothing but its home."""
    return subprocess.Popen(
        [sys.executable, "-m", "cloudedge", *arguments], cwd="/", text=True, env=environment(home),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@contextmanager
def at_work(home):
    process = command(home, "site", "work", NAME)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def token(up_home, quick_run):
    """The invitation of that machine."""
    return up_home.call("site", "invite", NAME).stdout.strip()


@pytest.fixture(scope="module")
def machine(up_home, token, tmp_path_factory):
    """The home of a machine that joined."""
    home = tmp_path_factory.mktemp("machine")
    joining = command(home, "site", "join", token, "--no-start")
    wait_for("the registration", lambda: "joined" in up_home.call("site", "list").stdout)
    out, err = joining.communicate(timeout=120)
    assert joining.returncode == 0, err
    assert f"{NAME} is admitted" in out
    assert re.search(r"measured: \d+ cores, .* link .* Mbit/s up, .* Mbit/s down", out)
    (line,) = [line for line in json.loads(up_home.call("site", "list", "--json").stdout) if line["name"] == NAME]
    assert line["profile"] < 600  # before its first order
    unit = (home / "sites" / NAME / f"cloudedge-site-{NAME}.service").read_text()
    assert f'Environment="CLOUDEDGE_HOME={home}"' in unit
    assert f"site work {NAME}" in unit
    yield home
    assert "is removed" in up_home.call("site", "remove", NAME).stdout


def test_without_systemd_its_process_is_started_in_the_background(up_home, tmp_path):
    token = up_home.call("site", "invite", "ward-8").stdout.strip()
    path = "/nowhere"  # no `systemctl` there
    joining = subprocess.Popen(
        [sys.executable, "-m", "cloudedge", "site", "join", token], cwd="/", text=True, env=environment(tmp_path, PATH=path),
        stdout=subprocess.PIPE,
    )  # fmt: skip

    def listed():
        lines = json.loads(up_home.call("site", "list", "--json").stdout)
        return [line for line in lines if line["name"] == "ward-8" and line["seen"] is not None]

    wait_for("its first sign of life", listed)
    out, _ = joining.communicate(timeout=120)
    assert joining.returncode == 0
    said = re.search(r"started as process (\d+), without systemd: .* its log is (\S+)", out)
    process = psutil.Process(int(said[1]))
    try:
        assert process.cmdline()[1:] == ["-m", "cloudedge", "site", "work", "ward-8"]
        assert "ward-8 looks into its mailbox" in Path(said[2]).read_text()
    finally:
        process.terminate()
        ended = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)  # its parent is gone, and not every init reaps
        wait_for("its end", lambda: not process.is_running() or process.status() in ended, 60)
    assert "is removed" in up_home.call("site", "remove", "ward-8").stdout


@pytest.fixture(scope="module")
def born(tmp_path_factory):
    """A catalog with three datasets that are in part born at that machine; two are restricted."""
    folder = tmp_path_factory.mktemp("born")
    (folder / "datasets").mkdir()
    (folder / "datasets" / "born.yaml").write_text(BORN)
    sealed = BORN.replace("modulo: 2", "modulo: 20").replace("shard_rows: 500", "shard_rows: 100")
    (folder / "datasets" / "sealed.yaml").write_text(sealed + "sensitivity: restricted\n")
    closed = sealed.replace("[0]", "[2]").replace("[1]", "[3]")
    (folder / "datasets" / "closed.yaml").write_text(closed + "sensitivity: restricted\n")
    return folder


def ran(up_home, machine, born, dataset):
    """The report of a run in which that machine took part."""
    with at_work(machine) as process:
        run = up_home.start("run", "--json", "--dataset", dataset, "--model", "quick", "--catalog", str(born))
        out, err = run.communicate(timeout=400)
        assert run.returncode == 0, err + (process.stderr.read() if process.poll() is not None else "")
        assert process.poll() is None
    return json.loads(out)


@pytest.fixture(scope="module")
def report(up_home, machine, born):
    return ran(up_home, machine, born, "born")


def test_a_run_with_a_site_that_has_no_credentials(report, up_store):
    assert (report["status"], report["rows_out"], report["missing_rows"], report["duplicate_rows"]) == (
        "complete",
        5000,
        0,
        0,
    )
    line = next(line for line in report["sites"] if line["name"] == NAME)
    assert line["rows"] == 2500
    assert line["computed_results"] == line["shards"]
    assert report["escalated_rows"] > 0
    assert up_store.keys(f"sites/{NAME}/outbox") == []  # all of it is where it belongs


def test_an_hour_that_passes_before_an_order_is_signed(report, up_home, machine, born, up_store, tmp_path):
    """What was allowed when the run was planned is refused when the site's next order would get its signatures."""
    now, rules = time.gmtime().tm_hour, tmp_path / "rules.csv"
    later = (now + 2) % 24
    rules.write_text(f"p, ann, *, *, *, *, *, {now}-{later}, allow\n")
    acting = {"CLOUDEDGE_POLICY": str(rules), "CLOUDEDGE_USER": "ann"}
    run = up_home.start("run", "--dataset", "closed", "--model", "quick", "--catalog", str(born), **acting)

    def letter(kind):
        return [each for each in letters.read_mailbox(up_store, NAME, up_home.path).letters if each.kind == kind]

    with at_work(machine):
        wait_for("what is prepared", lambda: letter("prepare"))
        (asked,) = letter("prepare")
        wait_for("its answer", lambda: up_store.exists(asked.answer))
    wait_for("the order to seal and send", lambda: letter("compress"))
    rules.write_text(f"p, ann, *, *, *, *, *, {later}-{now}, allow\n")
    with at_work(machine):
        _, err = run.communicate(timeout=400)
    assert run.returncode == 2, err
    assert "ann may not run closed (restricted) at" in err
    assert "no rule of rules.csv allows it" in err
    run_id = asked.order_id.partition("/")[0]
    signed = [letters.read_order(up_store, NAME, k, up_home.path) for k in up_store.keys(keys.signed_orders(NAME))]
    assert {order.does for order in signed if order.order_id.startswith(run_id)} == {"prepare", "compress"}


def test_restricted_data_of_a_site_that_has_no_credentials(report, up_home, machine, born, up_store):
    """Its data keys are made there and wrapped to it and to the cloud; its records leave it sealed."""
    before = {*up_store.keys("escalations")}
    said = ran(up_home, machine, born, "sealed")
    assert (said["status"], said["rows_out"], said["missing_rows"]) == ("complete", 500, 0)
    assert said["escalated_rows"] > 0
    packed = {*up_store.keys("escalations")} - before
    assert packed
    assert all(keys.is_encrypted(key) for key in packed)
    holders = [key.rpartition("/")[2] for key in up_store.keys(keys.DATA_KEYS)]
    assert {f"{NAME}.json", "cloud.json"} <= {*holders}
    kept = [path.name for path in (machine / "sites" / NAME / "premises").rglob("*.arrow.*") if "sealed" in path.parts]
    assert kept
    assert all(keys.is_encrypted(name) for name in kept)


def test_it_is_listed(report, up_home):
    out = up_home.call("site", "list").stdout
    assert re.search(rf"{NAME} +joined .* ago", out)
    (line,) = [line for line in json.loads(up_home.call("site", "list", "--json").stdout) if line["name"] == NAME]
    assert line["seen"] < 3600
    assert line["profile"] < 3600


def test_a_machine_that_joined_holds_no_secret_of_ours(report, up_home, machine):
    state = servers.read_state(up_home.path)
    assert state
    secrets = [state.secret_key.encode(), state.prefect_auth.encode(), (up_home.path / "coordinator.pem").read_bytes()]
    files = [path for path in machine.rglob("*") if path.is_file()]
    assert len(files) > 4
    for path in files:
        held = path.read_bytes()
        assert not [secret for secret in secrets if secret in held], path


def test_what_it_holds_stands_nowhere_else(report, up_home, up_store, machine, token, prefect_client):
    """Its token, its private key and its signatures: these are in what the coordinator signed for it, and there alone."""
    mine = {"its key": (machine / "sites" / NAME / "private.pem").read_bytes().splitlines()[10]}
    secrets = secrets_of(up_home.path, up_store) | secrets_of_token(token) | mine
    post = [keys.mailbox(NAME), *up_store.keys(keys.signed_orders(NAME))]
    ours = signing.public_key(signing.signing_key(up_home.path))
    mailbox = signing.verify(up_store.get(post[0]), ours, "mailbox", NAME, post[0])
    orders = [letters.read_order(up_store, NAME, key, up_home.path) for key in post[1:]]
    member = membership.read_membership(machine, NAME)
    granted = [member.access, enrolment.read_token(token).access, *(envelope.access for envelope in (mailbox, *orders))]
    signed = signatures(*granted)
    assert len(signed) > 20
    assert len(search({}, [(key, up_store.get(key)) for key in post], signed)) == len(post)
    assert not search(secrets, in_prefect(prefect_client), signed)
    assert not search(secrets, in_files(up_home.path), signed)
    assert not search(secrets, [(key, up_store.get(key)) for key in post])
    others = ["results", "escalations", "models", "runs", "sites", "datasets", "keys"]
    names = [name for place in others for name in up_store.keys(place) if name not in post]
    assert not search(secrets, ((name, up_store.get(name)) for name in names), signed)


def test_a_stolen_site_reaches_nothing_but_its_own(report, up_home, up_store, machine):
    """With all its files and every order that was signed for it."""
    member = membership.read_membership(machine, NAME)
    orders = [letters.read_order(up_store, NAME, key, up_home.path) for key in up_store.keys(keys.signed_orders(NAME))]
    assert {order.order_id.partition("/")[2] for order in orders} >= {f"answer-{NAME}", f"probe-{NAME}"}
    grants = [member.access, *(order.access for order in orders)]
    others = WorkOrder.model_validate_json(up_store.get(keys.run(report["run_id"], "orders", "edge-2.json")))
    foreign = {
        *(keys.result(shard.result) for shard in others.shards), *(shard.key for shard in others.shards),
        keys.run(report["run_id"], "plan.json"), keys.run(report["run_id"], "report.json"), keys.profile("edge-2"),
        keys.run(report["run_id"], "receipts", "edge-2.json"), keys.joined(NAME), *report["predictions"],
    }  # fmt: skip
    touched = {key for grant in grants for key in (*grant.reads, *grant.writes)}
    assert not touched & foreign
    assert any(up_store.exists(key) for key in foreign)
    for grant in (grant for grant in grants if grant.reads):
        query = presigning.read_url(grant, next(iter(grant.reads))).partition("?")[2]
        for key in sorted(foreign)[:3]:
            assert httpx.get(f"{grant.url}/{key}?{query}").status_code == 403
        assert httpx.get(f"{grant.url}?list-type=2&{query}").status_code == 403
        for key in list(grant.reads)[:3]:
            assert httpx.delete(presigning.read_url(grant, key)).status_code == 403
            assert httpx.put(presigning.read_url(grant, key), content=b"x").status_code == 403
        for writable in list(grant.writes)[:1]:  # an order whose shards all stay writes nothing
            form = presigning.write_form(grant, writable, "00")
            for key in sorted(foreign)[:3]:
                answer = httpx.post(grant.url, data=form | {"key": key}, files={"file": ("x", b"forged")})
                assert answer.status_code == 403


def test_a_stolen_site_is_nobody_to_prefect(report, deployed_home, up_home, machine, prefect_client):
    """It never talks to it, and has nothing to say: the real server answers it nothing but that it lives."""
    deployment = prefect_client.read_deployment_by_name("collaborate/run")
    mine = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]))
    runs, started = prefect_client.read_flow_runs(limit=1), prefect_client.read_flow_runs(flow_run_filter=mine)
    state = servers.read_state(up_home.path)
    assert state
    api = f"{state.prefect_url}/api"
    assert httpx.get(f"{api}/health").status_code == 200
    with httpx.Client(base_url=api, auth=("admin", "guessed")) as guesser, httpx.Client(base_url=api) as stranger:
        for client in (stranger, guesser):
            for method, path in (
                ("POST", "/block_documents/filter"), ("POST", "/flow_runs/filter"), ("POST", "/logs/filter"),
                ("POST", "/deployments/filter"), ("POST", "/work_pools/filter"), ("POST", "/variables/filter"),
                ("POST", "/artifacts/filter"), ("POST", "/flow_runs/"), ("POST", "/deployments/"), ("GET", "/version"),
                ("GET", "/admin/settings"), ("POST", "/automations/filter"), ("GET", f"/deployments/{deployment.id}"),
                ("POST", f"/deployments/{deployment.id}/create_flow_run"), ("PATCH", f"/deployments/{deployment.id}"),
                ("DELETE", f"/deployments/{deployment.id}"), ("POST", f"/deployments/{deployment.id}/pause_deployment"),
                ("GET", f"/flow_runs/{runs[0].id}"), ("POST", f"/flow_runs/{runs[0].id}/set_state"),
                ("PATCH", f"/flow_runs/{runs[0].id}"), ("POST", "/work_pools/cloudedge/get_scheduled_flow_runs"),
            ):  # fmt: skip
                assert client.request(method, path, json={}).status_code == 401, path
    for path in (
        "events/in", "events/out", "logs/out", "task_runs/subscriptions/scheduled",
        "work_pools/cloudedge/workers/connect",
    ):  # fmt: skip
        assert_closed(f"{api.replace('http', 'ws', 1)}/{path}")
    now = prefect_client.read_deployment(deployment.id)
    assert (now.paused, now.parameters, now.entrypoint) == (False, {}, deployment.entrypoint)
    assert prefect_client.read_flow_run(runs[0].id).state == runs[0].state
    assert len(prefect_client.read_flow_runs(flow_run_filter=mine)) == len(started)
    text = b"".join(path.read_bytes() for path in machine.rglob("*") if path.is_file())
    assert state.prefect_url.encode() not in text


def assert_closed(url):
    """A web socket of Prefect's, to one who does not know how to begin, and to one who has to guess."""
    with pytest.raises(InvalidStatus, match="403"), connect(url):
        pytest.fail(f"{url} is open to a stranger")  # pragma: no cover
    for token in (None, "admin:guessed"):
        with connect(url, subprotocols=["prefect"]) as socket:
            socket.send(json.dumps({"type": "auth", "token": token}))
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(timeout=30)
        assert closed.value.rcvd.code == POLICY_VIOLATION, url


def test_without_its_access_a_site_says_what_to_do(report, up_home, up_store, machine, tmp_path):
    """A site that was off for longer than its access to the mailbox lived ends with exit code 2."""
    member = membership.read_membership(machine, NAME)
    over = presigning.sign_access(up_store.signer(), [keys.mailbox(NAME)], [], time.time() - 600, 60, 0)
    membership.keep_membership(tmp_path, member.model_copy(update={"access": over}))
    process = command(tmp_path, "site", "work", NAME)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert f"cloudedge site invite {NAME}" in err
    assert enrolment.joined_sites(up_store, up_home.path)[NAME]
