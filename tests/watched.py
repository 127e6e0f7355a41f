"""A small run for tests of the watch: two edges and a cloud with the real engine, and runtimes that can be slow, stuck or broken."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from data_catalog.errors import SiteFailed
from data_catalog.nouns import (
    AccessDecision,
    Cascade,
    Placement,
    Plan,
    Profile,
    Receipt,
    Shard,
    Site,
    VariantCard,
    VariantSpeed,
)
from infra import keys, shards, watching
from infra.codecs import CODECS
from infra.placement import PlaceOrigin, Problem
from infra.problem import place_site
from infra.runtimes import RUNTIMES
from infra.watching import Hands, Patience
from tasks.infer_shards import infer_shards
from tasks.write_orders import write_orders

MODELS = {"edge": b"the sum of a row says its class", "cloud": b"and says the same in the cloud"}
ROWS = 4
ALLOWED = AccessDecision(
    who="me", does="run", dataset="toy", sensitivity="public", region="", sites=(), purpose="", hour=0, rule="r"
)
QUICK = Patience(look=0.2, looks=1e9, longest_look=1.0, lease=3.0, linger=2.0, give_up=1.0)


def answer(x):
    total = x.reshape(len(x), -1).sum(axis=1).astype(np.float32)
    return np.stack([total % 7, total % 5], axis=1).astype(np.float32)


@dataclass
class Speeds:
    """What each site's runtime does with a call: sleeps so many seconds, or what it says."""

    seconds: dict[str, float]
    stuck: set[str] = field(default_factory=set)  # sites whose runtime never returns
    broken: dict[str, int] = field(default_factory=dict)  # calls after which a site's runtime fails
    calls: dict[str, int] = field(default_factory=dict)
    freed: threading.Event = field(default_factory=threading.Event)

    def runtime(self, site):
        def predict(x):
            self.calls[site] = self.calls.get(site, 0) + 1
            if self.calls[site] > self.broken.get(site, 1 << 30):
                raise OSError("the accelerator is gone")
            if site in self.stuck:
                self.freed.wait(600)
            time.sleep(self.seconds.get(site, 0.0))
            return answer(x)

        return SimpleNamespace(FORMAT="toy", load=lambda model, batch: predict, version=lambda: "1")


def card(site, tier):
    model = MODELS[tier]
    return VariantCard(
        model="toy", version="v", tier=tier, recipe="r", runtime=f"toy-{site}", runtime_version="1", key=f"models/{tier}",
        digest=hashlib.sha256(model).hexdigest(), bytes=len(model), classes=("0", "1"), shape=(3,), dtype="uint8", temperature=1.0,
        validation_rows=1, accuracy=1.0, accuracy_interval=(1.0, 1.0), class_accuracy=(1.0, 1.0), agreement=1.0,
        made_seconds=0.0,
    )  # fmt: skip


def make(store, speeds, monkeypatch, *, count=24, sites=("edge-1", "edge-2", "cloud"), at=None, threshold=0.9,
         planned=0.02, run="r1", on_premises=True, budget=None):  # fmt: skip
    """The plan of a run whose shards are born in equal parts at the edges, its problem, its sites and their profiles.

    Args:
        store: that gets the shards and the model.
        speeds: of the runtimes.
        monkeypatch: the test's.
        count: of shards.
        sites: names.
        at: by the number of a shard, who answers it; its origin unless given.
        threshold: under which the edges escalate.
        planned: seconds a shard, as the profiles say.
        run: its id.
        on_premises: of the edges' shards.
        budget: of the escalations.
    """
    for tier, model in MODELS.items():
        store.put(f"models/{tier}", model)
    for name in sites:
        monkeypatch.setitem(RUNTIMES._loaded, f"toy-{name}", speeds.runtime(name))
    cards = {name: card(name, "cloud" if name == "cloud" else "edge") for name in sites}
    where = [Site(name=name, tier=cards[name].tier, shards_on_premises=on_premises) for name in sites]
    profiles = [
        Profile(
            site=name, host=name, cores=1, memory_bytes=1 << 30, disk_free_bytes=1 << 40, up_bytes_per_second=1e9,
            down_bytes_per_second=1e9, latency_seconds=0.0, dispatch_seconds=0.01,
            variants={cards[name].digest: VariantSpeed(rows_per_second=ROWS / planned, batch=ROWS, startup_seconds=0.01)},
        )
        for name in sites
    ]  # fmt: skip
    edges = [name for name in sites if name != "cloud"]
    placements = []
    for number in range(count):
        origin = edges[number % len(edges)]
        x = np.random.default_rng(number).integers(0, 255, (ROWS, 3)).astype(np.uint8)
        plain = shards.encode(pa.array([f"{origin}/{number * ROWS + i:09d}" for i in range(ROWS)]), x)
        name = shards.digest(plain)
        site = (at or {}).get(number, origin)
        key = keys.shard("toy", name, "zstd")
        store.put(key, CODECS.get("zstd").compress(plain))
        placements.append(
            Placement(
                shard=Shard(digest=name, rows=ROWS, bytes=len(plain), raw_bytes=ROWS * 3, origin=origin, source=origin,
                            first_row=number * ROWS),
                site=site, variant=cards[site].digest, codec="zstd", key=key, reused=False, reason="as planned",
                result=keys.result_name(name, cards[site].answering, "p"),
            )
        )  # fmt: skip
    cascade = Cascade(
        threshold=threshold, temperature=1.0, bound=0.01, allowance=0.0, escalation=0.0, validation_rows=1,
        validation_accuracy=1.0, validation_cloud_accuracy=1.0,
    )  # fmt: skip
    plan = Plan(
        run_id=run, dataset="toy", model="toy", version="v", preprocessing="p", created=0.0, cascade=cascade,
        variants={"edge": cards[edges[0]], "cloud": cards.get("cloud", cards[edges[0]])}, cards=cards,
        cascades={cards[edges[0]].digest: cascade}, batch_sizes=dict.fromkeys(sites, ROWS), placements=tuple(placements),
        fingerprints={}, predicted_seconds=1.0, predicted_site_seconds={}, predicted_wan_bytes=0, reasons={}, budget=budget, record_bytes=10.0, access=(ALLOWED.model_copy(update={"sites": (*sites, "new")}),),
    )  # fmt: skip
    problem = Problem(
        sites=tuple(place_site(s, p, [(cards[s.name], cascade)]) for s, p in zip(where, profiles, strict=True)),
        origins=tuple(PlaceOrigin(site=e, shards=count, rows=ROWS, bytes=100.0, resident=False) for e in edges),
        record_bytes=10.0,
    )
    return plan, problem, where, profiles


def run(store, plan, problem, where, profiles, home, *, patience=QUICK, join=tuple, refuse=(), ends=None):
    """Do the plan under watch, and what became of it.

    Args:
        store: with the plan's shards; `open_store` gives it too.
        plan: as of `make`, and so the next three.
        problem: likewise.
        where: likewise.
        profiles: likewise.
        home: for the sites' folders.
        patience: of the watch.
        join: as of `Hands`.
        refuse: sites that cannot be reached.
        ends: epoch seconds after which nobody is waited for.
    """
    sites, measured = list(where), list(profiles)

    def written(part, number):
        orders = write_orders(part, sites, store.bucket, watched=True, number=number)
        return orders[part.placements[0].site]

    def joined():
        found = join()
        for each, profile in found:
            sites.append(each.site)
            measured.append(profile)
        return [each for each, _ in found]

    def handed(site: str, key: str) -> Receipt:
        if site in refuse:
            raise SiteFailed(f"site {site} cannot be reached")
        return infer_shards(key, home, store.bucket)

    write_orders(plan, sites, store.bucket, watched=True)
    hands = Hands(answer=handed, write=written, upload=lambda source, placements: 0, join=joined)
    return watching.watch(plan, problem, where, hands, store, patience, ends)
