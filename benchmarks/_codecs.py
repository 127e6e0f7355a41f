"""The parts of `benchmarks.data` about codecs: a table of them, and deliveries over a link."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from data_catalog.catalog import Catalog
from infra import codec_trials, pipeline, shards, sources, storage
from infra.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

TABLE_PATIENCE = 0.5  # seconds for each codec
SHARDS = 16  # of a delivery, at least
SHARD_BYTES = 8 << 20  # at most
SECONDS = 1.0  # that a delivery over a link should take, at a ratio of 5
MOST_BYTES = 128 << 20  # of a delivery: a gigabit is more than compression gives on one core
ROUNDS = 4
FINALISTS = 2  # fastest in the first round, and as many by prediction, go through every round; the others do not
NEAR = 1.5  # codecs predicted to take longer than so many times the best are not the best


# --- the table --------------------------------------------------------------------------------------------


def digits() -> NDArray[np.uint8]:
    """All real digits of mnist-5k, (5000, 28, 28, 1) uint8."""
    dataset = Catalog().dataset("mnist-5k")
    folder = read_settings().home / "downloads"
    return np.concatenate(
        [
            records.x
            for source in dataset.sources
            for records in sources.read_records(
                dataset, source, sources.local_files(dataset, source, folder)[0]
            )
        ]
    )  # fmt: skip


def vibration() -> NDArray[np.int16]:
    """Made: windows of a 12-bit accelerometer, (600, 1024, 3) int16, harmonics of a shaft and noise of one percent."""
    rng = np.random.default_rng(60)
    turns = np.cumsum(1 + 0.02 * rng.standard_normal((600, 1024)), axis=1) * 29.5 / 12_800  # 1770 rpm at 12.8 kHz
    signal = np.zeros((600, 1024, 3))
    for harmonic, share in ((1, 1.0), (2, 0.4), (5.4, 0.3), (13, 0.1)):
        phases = rng.uniform(0, 2 * np.pi, (600, 1, 3))
        signal += share * np.sin(2 * np.pi * harmonic * turns[..., None] + phases)
    signal += 0.01 * rng.standard_normal(signal.shape)
    return np.round(signal / 2 * 2047).clip(-2048, 2047).astype(np.int16)


def shard(x: NDArray[np.generic]) -> bytes:
    """The Arrow bytes of a shard with such records."""
    return shards.encode(sources.record_ids("bench", np.arange(len(x))), np.ascontiguousarray(x))


def tables() -> list[str]:
    """Markdown: for each kind of data, every codec's ratio and speeds on one core."""
    images = digits()
    scaled = ((images - images.mean()) / images.std()).astype(np.float32)
    lines = []
    for name, x in (
        ("Real digits, uint8", images), ("The same digits scaled to mean 0 and variance 1, float32", scaled[:2500]),
        ("Made vibration of three axes, int16", vibration()),
    ):  # fmt: skip
        plain = shard(x)
        trials = codec_trials.measure(plain, TABLE_PATIENCE)
        same = ", ".join(f"`{codec}`" for codec in trials.left_out)
        lines += [
            f"{name}, {x.shape[1:]} a record, {len(plain):,} bytes; one core. Not in the table, because for such data"
            f" it is `{codec_trials.REFERENCE}` in a frame: {same}.",
            "",
            "| codec | ratio | compress MB/s | decompress MB/s |",
            "|---|---|---|---|",
            *(
                f"| {trial.codec} | {trial.ratio:.2f} | {_rate(trial.compress_bytes_per_second)} | {_rate(trial.decompress_bytes_per_second)} |"
                for trial in sorted(trials.tried, key=lambda trial: -trial.ratio)
            ),
            "",
        ]
    return lines[:-1]


def _rate(bytes_per_second: float) -> str:
    rate = bytes_per_second / 1e6
    return "" if rate > 1e5 else f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


# --- deliveries -------------------------------------------------------------------------------------------


def deliveries(megabits: int) -> dict[str, Any]:
    """Times of the planner's choice and of the other codecs over the link behind which the store of this process lies.

    The planner's choice is made as in a run: by trials of the first shard, and by the rate that the probe measures.
    """
    from tasks.probe_site import measure_link

    store = storage.open_store()
    total = min(MOST_BYTES, int(megabits * 1e6 / 8 * 5 * SECONDS))
    plains = list(batch(total))
    up, down, _ = measure_link(store, "bench")
    link = min(up, down)
    trials = codec_trials.measure(plains[0]).tried
    chosen = codec_trials.choose(trials, link).codec
    predicted = {trial.codec: codec_trials.seconds_a_byte(trial, link) for trial in trials}
    near = sorted(codec for codec in predicted if predicted[codec] <= NEAR * predicted[chosen])
    times: dict[str, list[float]] = {codec: [] for codec in near}
    finalists = near
    for turn in range(ROUNDS):
        for codec in finalists if turn % 2 else finalists[::-1]:
            times[codec].append(deliver(store, plains, codec))
        if not turn:
            first = sorted(near, key=lambda codec: times[codec][0])[:FINALISTS]
            likely = sorted(near, key=lambda codec: predicted[codec])[:FINALISTS]
            finalists = [codec for codec in near if codec in {*first, *likely, chosen}]
    seconds = {codec: min(each) for codec, each in times.items()}
    best = min(seconds, key=lambda codec: seconds[codec])
    return {
        "megabits": megabits, "probed_megabits": link * 8 / 1e6, "bytes": sum(map(len, plains)), "shards": len(plains),
        "chosen": chosen, "best": best, "over_best": seconds[chosen] / seconds[best], "seconds": seconds,
        "load": os.getloadavg()[0], "predicted": {codec: predicted[codec] * sum(map(len, plains)) for codec in near},
    }  # fmt: skip


def batch(total: int) -> Iterator[bytes]:
    """Shards of real digits in random order, equal in size, of about so many bytes in all."""
    images = digits()
    count = max(SHARDS, total // SHARD_BYTES)
    rows = max(1, total // count // images[0].nbytes)
    for number in range(count):
        yield shard(images[np.random.default_rng(number).integers(0, len(images), rows)])


def deliver(store: storage.Store, plains: list[bytes], codec: str) -> float:
    """Seconds from the first shard's compression to the last one's verification at the other end; all overlapped."""
    keys = {number: f"bench/{codec}/{number}" for number in range(len(plains))}
    digests = [shards.digest(plain) for plain in plains]

    def compress(number: int) -> tuple[int, bytes]:
        return number, shards.pack(plains[number], codec)

    def put(work: tuple[int, bytes]) -> int:
        store.put(keys[work[0]], work[1])
        return work[0]

    def get(number: int) -> tuple[int, bytes]:
        return number, store.get(keys[number])

    def decompress(work: tuple[int, bytes]) -> None:
        number, packed = work
        shards.unpack(packed, codec, len(plains[number]), digests[number], keys[number])

    begun = time.perf_counter()
    pipeline.run_stages(keys, [("compress", compress), ("put", put), ("get", get), ("decompress", decompress)])
    seconds = time.perf_counter() - begun
    for key in keys.values():
        store.delete(key)
    return seconds


def delivery_lines(found: list[dict[str, Any]]) -> list[str]:
    """Markdown: a row a link."""
    rows = []
    for link in found:
        others = ", ".join(
            f"{codec} {seconds:.2f}" for codec, seconds in sorted(link["seconds"].items(), key=lambda item: item[1])
        )
        rows.append(
            f"| {link['megabits']:,} Mbit/s | {link['bytes'] / 1e6:,.1f} MB in {link['shards']} | {link['chosen']} |"
            f" {link['best']} | {link['over_best']:.3f} | {others} |"
        )
    return [
        "Deliveries of shards of real digits through the local S3 store, over a proxy that lets through no more than the"
        " link's rate each way; compress, put, get, and decompress with verification overlap. Seconds are the best of"
        f" {ROUNDS} rounds in turns for the choice, the {FINALISTS} fastest of the first round and the {FINALISTS} best by prediction, and of one"
        f" round for the others; those predicted to take over {NEAR:g} times as long as the choice are left out. While it was"
        f" measured, {max(link['load'] for link in found):.1f} threads wanted to run on the machine's {os.cpu_count()} cores at the most.",
        "",
        "| link | shards | planner's choice | best | choice over best | seconds |",
        "|---|---|---|---|---|---|",
        *rows,
    ]  # fmt: skip
