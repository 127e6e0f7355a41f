"""Measure a site: its link to the store, its machine, and each of its variants at the fastest batch."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.errors import ModelRefused
from data_catalog.nouns import Profile, Site, Spread, VariantCard, VariantSpeed
from infra import cascade, choice, codec_trials, keys, links, profiles, sites, storage
from infra.progress import publish
from infra.runtimes import RUNTIMES, Predictor

EDGE_RUNTIME = "litert"  # that every machine has which installed cloudedge
BATCHES = (1, 8, 16, 32, 64, 128, 256)
PROBE_SECONDS, SLICE_SECONDS = 0.1, 0.02  # for one batch size; the part of it that one answer takes; and
LIMITED_SECONDS = 0.4  # instead, where the process is paused again and again
MOST_PROBE_SECONDS = 1.5  # for all of a variant's: what a large net needs for one call comes on top
BETTER = 1.03  # times the rate of a smaller batch is worth a larger one
WORSE = 0.9  # of the best rate, twice in turn: the activations have left the cache, larger batches are not tried
MOST_ROWS, MOST_RECORD_BYTES = 512, 64 << 20  # of the records that are answered
SIZES = (*(1 << 10,) * 3, *(1 << power for power in range(13, 21)))  # bytes of the transfers that are timed, and
LEAST_PROBE_BYTES = 32 << 10  # that are timed on the slowest link
ENOUGH_SECONDS = 0.02  # that a transfer took beside its latency: larger ones are not needed


def probe_site(site: Site, cards: Sequence[VariantCard], home: Path, bucket: str) -> Profile:
    """The site's profile with these variants in it, each as measured or as refused by the site's runtime.

    Args:
        site: which one; must be this machine.
        cards: the variants that it would run, with the runtime that would execute them.
        home: the sites' folder on this machine.
        bucket: of the store.

    Raises:
        CorruptObject, StoreError: as `sites.cached_model`.
        SettingError: a runtime is not installed here; says what to set.
    """
    begun = time.time()
    store = storage.open_store(bucket)
    folder = home / "sites" / site.name
    machine = probe_machine(store, site.name, folder)
    used_bytes = machine.probe_bytes
    before = sites.read_profile(store, site.name)
    speeds = dict(before.variants) if before else {}
    refused = dict(before.refused) if before else {}
    for card in cards:
        try:
            model, crossed = sites.cached_model(store, card, folder)
            used_bytes += crossed or sites.examine(store, card, model)  # what it just fetched it has examined
            speeds[card.digest] = measure_speed(card, model, min(site.threads, sites.core_count()))
        except ModelRefused as error:
            refused[choice.tried(card)] = str(error)
        publish("probe", site.name, 1, 1, "profiles")
    now = time.time()
    runtimes = sorted({card.runtime for card in cards})
    done = machine.model_copy(
        update={
            "variants": speeds,
            "refused": refused,
            "runtime_versions": {name: RUNTIMES.get(name).version() for name in runtimes},
            "measured_at": now,
            "probe_seconds": now - begun,
            "probe_bytes": used_bytes,
        }
    )
    if not before:
        return done
    known = profiles.observe(before, now, **{name: getattr(machine, name) for name in machine.spreads})
    kept = ("dispatch_seconds", "chosen", "good", "spreads", *machine.spreads)
    return done.model_copy(update={name: getattr(known, name) for name in kept})


def probe_machine(store: storage.Store, site: str, folder: Path) -> Profile:
    """What can be measured of a site without an order: its machine, the edge runtime's version, its link to the store.

    Args:
        store: as the site reaches it; must let it write, read and delete `keys.trial(site)`.
        site: its name; must be this machine.
        folder: of the site on this machine.

    Raises:
        StoreError, StoreRefused: the link cannot be measured.
    """
    begun = time.time()
    up, down, used_bytes = measure_link(store, site)
    link = {
        "up_bytes_per_second": (up.bytes_per_second, up.rate_variance),
        "down_bytes_per_second": (down.bytes_per_second, down.rate_variance),
        "latency_seconds": (
            (up.latency_seconds + down.latency_seconds) / 2,
            (up.latency_variance + down.latency_variance) / 4,
        ),
    }
    now = time.time()
    return Profile(
        site=site,
        host=sites.host_name(),
        cores=sites.core_count(),
        memory_bytes=sites.memory_bytes(),
        memory_free_bytes=sites.memory_free_bytes(),
        disk_free_bytes=sites.disk_free_bytes(folder),
        **{name: value for name, (value, _) in link.items()},
        dispatch_seconds=0.0,
        runtime_versions={EDGE_RUNTIME: RUNTIMES.get(EDGE_RUNTIME).version()},
        missing_codecs=codec_trials.missing(),
        measured_at=now,
        probe_seconds=now - begun,
        probe_bytes=used_bytes,
        spreads={name: Spread(variance=variance, at=now) for name, (_, variance) in link.items()},
    )


def measure_speed(card: VariantCard, model: bytes, threads: int = 1) -> VariantSpeed:
    """The fastest batch of one thread, as the engine computes: logits, class and confidence.

    Small batches come first, so that a large input never meets a batch that does not fit the cache, or the memory. With
    that batch a site of several threads is measured with all at work: a runtime that takes all cores for one call, as
    TensorFlow does, gains nothing by a second thread.

    Args:
        card: of the variant.
        model: its bytes.
        threads: of the site, as many as there are cores.

    Raises:
        ModelRefused: the runtime cannot run it, or its answers are not logits of the card's classes.
    """
    dtype = np.dtype(card.dtype)
    record_bytes = dtype.itemsize * int(np.prod(card.shape))
    rows = max(1, min(MOST_ROWS, MOST_RECORD_BYTES // record_bytes))
    x = np.random.default_rng(0).integers(0, 255, (rows, *card.shape)).astype(dtype)
    best, startup, falls = (0.0, BATCHES[0]), 0.0, 0
    all_begun = time.perf_counter()
    for batch in (size for size in BATCHES if size <= rows):
        begun = time.perf_counter()
        predict = RUNTIMES.get(card.runtime).load(model, batch)
        logits = predict(x[:batch])
        startup = startup or time.perf_counter() - begun
        if logits.shape != (batch, len(card.classes)):
            raise ModelRefused(
                f"variant {choice.named(card)} of {card.model} answers {batch} records with {logits.shape}, not with"
                f" logits of {len(card.classes)} classes"
            )
        rate = _rate(predict, x, batch, card.temperature)
        falls = falls + 1 if rate < WORSE * best[0] else 0
        if rate > BETTER * best[0]:
            best = (rate, batch)
        if falls == 2 or time.perf_counter() - all_begun > MOST_PROBE_SECONDS:
            break
    if threads > 1:
        predictors = [RUNTIMES.get(card.runtime).load(model, best[1]) for _ in range(threads)]
        with ThreadPoolExecutor(threads) as pool:
            rates = list(pool.map(lambda predict: _rate(predict, x, best[1], card.temperature), predictors))
        best = (sum(rates) / threads, best[1])
    return VariantSpeed(
        rows_per_second=best[0],
        batch=best[1],
        startup_seconds=startup,
        runtime=card.runtime,
        probed_rows_per_second=best[0],
    )


def _rate(predict: Predictor, x: NDArray[np.generic], batch: int, temperature: float) -> float:
    """Rows a second in the best of some slices of time: what else the machine did in the others is no measure of this.

    The first slice is one batch; the others are as many batches as fit their time, up to all records. A process that has
    a quota of processor time, as a container may, is paused for it in some slices and not in others: there the mean counts.
    """
    limited = sites.core_quota() is not None
    best, done, at_once, begun = 0.0, 0, batch, time.perf_counter()
    while True:
        slice_begun = time.perf_counter()
        cascade.answer(predict(x[:at_once]), temperature)
        now = time.perf_counter()
        best, done = max(best, at_once / (now - slice_begun)), done + at_once
        if now - begun >= (LIMITED_SECONDS if limited else PROBE_SECONDS):
            return done / (now - begun) if limited else best
        at_once = max(1, min(int(best * SLICE_SECONDS) // batch, len(x) // batch)) * batch


def measure_link(store: storage.Store, site: str) -> tuple[links.Link, links.Link, int]:
    """The link up and down, and the bytes used, by transfers of growing size.

    They grow until one takes long enough beside its latency to say something, so a slow link is not flooded.
    """
    key = keys.trial(site)
    sizes: list[int] = []
    up: list[float] = []
    down: list[float] = []
    for size in SIZES:
        data = os.urandom(size)  # nothing between here and the store can compress it
        begun = time.perf_counter()
        store.put(key, data)
        put = time.perf_counter()
        store.get(key)
        sizes.append(size)
        up.append(put - begun)
        down.append(time.perf_counter() - put)
        if size >= LEAST_PROBE_BYTES and min(up[-1] - min(up), down[-1] - min(down)) > ENOUGH_SECONDS:
            break
    store.delete(key)
    return links.fit(sizes, up), links.fit(sizes, down), 2 * sum(sizes)


probe_site_task = task(name="probe", task_run_name="probe {site.name}", cache_policy=NO_CACHE)(probe_site)
