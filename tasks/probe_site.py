"""Measure a site: rows a second of its variant at the fastest batch, its link to the store, its machine."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.nouns import Profile, Site, VariantCard, VariantSpeed
from infra import cascade, sites, storage
from infra.progress import publish
from infra.runtimes import RUNTIMES

BATCHES = (32, 64, 128, 256)
PROBE_SECONDS = 0.15
LEAST_PROBE_BYTES, MOST_PROBE_BYTES = 64 << 10, 1 << 20
ENOUGH_SECONDS = 0.02  # a transfer that takes this long is no longer all latency


def probe_site(site: Site, card: VariantCard, home: Path, bucket: str) -> Profile:
    """The site's profile with this variant in it.

    Args:
        site: which one; must be this machine.
        card: the variant that it would run.
        home: the sites' folder on this machine.
        bucket: of the store.
    """
    begun = time.time()
    store = storage.open_store(bucket)
    folder = home / "sites" / site.name
    model, model_bytes = sites.cached_model(store, card, folder)
    up, down, latency, link_bytes = _measure_link(store, site.name)
    before = sites.read_profile(store, site.name)
    publish("probe", site.name, 1, 1, "profiles")
    return Profile(
        site=site.name,
        host=sites.host_name(),
        cores=sites.core_count(),
        memory_bytes=sites.memory_bytes(),
        disk_free_bytes=sites.disk_free_bytes(folder),
        up_bytes_per_second=up,
        down_bytes_per_second=down,
        latency_seconds=latency,
        dispatch_seconds=before.dispatch_seconds if before else 0.0,
        variants=(before.variants if before else {}) | {card.digest: measure_speed(card, model)},
        runtime_versions={card.runtime: RUNTIMES.get(card.runtime).version()},
        measured_at=time.time(),
        probe_seconds=time.time() - begun,
        probe_bytes=model_bytes + link_bytes,
    )


def measure_speed(card: VariantCard, model: bytes) -> VariantSpeed:
    """The fastest batch of one thread, as the engine computes: logits, class and confidence."""
    x = np.random.default_rng(0).integers(0, 255, (max(BATCHES) * 2, *card.shape)).astype(card.dtype)
    best, startup = (0.0, BATCHES[0]), 0.0
    for batch in BATCHES:
        begun = time.perf_counter()
        predict = RUNTIMES.get(card.runtime).load(model, batch)
        predict(x[:batch])
        startup = startup or time.perf_counter() - begun
        rows, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < PROBE_SECONDS:
            cascade.answer(predict(x), card.temperature)
            rows += len(x)
        best = max(best, (rows / (time.perf_counter() - begun), batch))
    return VariantSpeed(rows_per_second=best[0], batch=best[1], startup_seconds=startup)


def _measure_link(store: storage.Store, site: str) -> tuple[float, float, float, int]:
    """Bytes a second up and down, seconds to read or write a small object (median of three), and bytes used.

    The object grows until its transfer takes long enough to say something, so a slow link is not flooded.
    """
    key = f"sites/{site}/probe"
    latency, size, used = [], LEAST_PROBE_BYTES, 0
    for _ in range(3):
        begun = time.perf_counter()
        store.put(key, b"small")
        store.get(key)
        latency.append((time.perf_counter() - begun) / 2)
    while True:
        data = os.urandom(size)  # nothing between here and the store can compress it
        begun = time.perf_counter()
        store.put(key, data)
        put = time.perf_counter()
        store.get(key)
        got = time.perf_counter()
        used += 2 * size
        if size == MOST_PROBE_BYTES or min(put - begun, got - put) > ENOUGH_SECONDS:
            store.delete(key)
            return size / (put - begun), size / (got - put), float(np.median(latency)), used
        size *= 2


probe_site_task = task(name="probe", task_run_name="probe {site.name}", cache_policy=NO_CACHE)(probe_site)
