"""s3fs beside obstore and boto3, and the store as cloudedge uses it, on one local S3 server.

    python -m benchmarks.transfer

Four cases: writing and reading 64 objects of 1 MiB with 8 in flight, and one of 256 MiB. In each round every client
does a case right after the other, in turns forwards and backwards, so that what else the machine does hits them alike;
of a case the median over the rounds of the ratio of their times counts.

`s3fs_over_obstore` is the throughput of s3fs over that of obstore: the geometric mean of the four cases. Under 0.7 the
store's client ought to be swappable (`docs/adr/0007-transfer.md`).
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from benchmarks._results import ROOT
from benchmarks._store import local_store
from infra.settings import read_settings
from infra.storage import Store

if TYPE_CHECKING:
    from collections.abc import Callable

HOME = ROOT / ".cloudedge" / "bench-transfer"
MANY, IN_FLIGHT, SMALL, LARGE = 64, 8, 1 << 20, 256 << 20
ROUNDS = 7
CASES = ("put many", "get many", "put large", "get large")
PREFIX = "transfer-benchmark"


class Client(Protocol):
    """What is compared; keys are of the bucket in the settings."""

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""

    def get(self, key: str) -> bytes:
        """Read an object."""


class S3fs:
    """s3fs as its documentation uses it."""

    def __init__(self, bucket: str) -> None:
        import s3fs

        self.bucket, self.fs = bucket, s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)

    def put(self, key: str, data: bytes) -> None:
        """One request, or parts of 50 MiB."""
        self.fs.pipe_file(f"{self.bucket}/{key}", data)

    def get(self, key: str) -> bytes:
        """One request; else it would ask for the size first."""
        return self.fs.cat_file(f"{self.bucket}/{key}", max_concurrency=1)


class Obstore:
    """obstore (Rust's object_store) as its documentation uses it."""

    def __init__(self, bucket: str) -> None:
        from obstore.store import S3Store

        self.store = S3Store(
            bucket,
            endpoint=os.environ["AWS_ENDPOINT_URL"],
            region=os.environ["AWS_DEFAULT_REGION"],
            access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
            secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
            client_options={"allow_http": True},
        )

    def put(self, key: str, data: bytes) -> None:
        """One request, or parts of 5 MiB."""
        import obstore

        obstore.put(self.store, key, data)

    def get(self, key: str) -> bytes:
        """One request."""
        import obstore

        return obstore.get(self.store, key).bytes().to_bytes()


class Boto3:
    """boto3 with its managed upload."""

    def __init__(self, bucket: str) -> None:
        import boto3
        from botocore.config import Config

        self.bucket = bucket
        self.client = boto3.client("s3", config=Config(max_pool_connections=32))

    def put(self, key: str, data: bytes) -> None:
        """One request, or parts of 8 MiB."""
        import io

        self.client.upload_fileobj(io.BytesIO(data), self.bucket, key)

    def get(self, key: str) -> bytes:
        """One request."""
        return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()


CLIENTS: dict[str, Callable[[str], Client]] = {"s3fs": S3fs, "obstore": Obstore, "boto3": Boto3, "store": Store}


def measure(rounds: int = ROUNDS) -> dict[str, float]:
    """Throughputs in MiB/s (medians) by case and client, and their ratios to obstore's.

    Args:
        rounds: how often every client does every case.

    Returns:
        `s3fs_over_obstore`, `boto3_over_obstore` and `store_over_obstore` (geometric means of the four cases; `store`
        is `infra.storage.Store`: s3fs with digests, retries and resumption), `s3fs_over_obstore_worst` (of the
        cases), `s3fs_cpu_over_obstore` (CPU seconds of this process), `load_average` (at the start: with no core to spare
        the CPU decides), and `<client> <case> MiB/s`.

    The bucket and its credentials come from the settings; the server must run.
    """
    bucket = read_settings().required_bucket()
    clients = {name: make(bucket) for name, make in CLIENTS.items()}
    load = os.getloadavg()[0]
    small, large = os.urandom(SMALL), os.urandom(LARGE)
    for name, client in clients.items():  # connected and imported, and what a client returns is right
        client.put(f"{PREFIX}/{name}/0", small)
        if client.get(f"{PREFIX}/{name}/0") != small:
            raise AssertionError(name)
    seconds: dict[tuple[str, str], list[float]] = {}
    cpu = dict.fromkeys(clients, 0.0)
    for turn in range(rounds):
        for case in CASES:
            for name in list(clients)[:: 1 if turn % 2 else -1]:
                begun, spent = time.perf_counter(), time.process_time()
                _do(case, clients[name], f"{PREFIX}/{name}", small, large)
                seconds.setdefault((name, case), []).append(time.perf_counter() - begun)
                cpu[name] += time.process_time() - spent
    store = Store(bucket)
    for key in store.keys(PREFIX):
        store.delete(key)
    ratios = {name: [_ratio(seconds["obstore", case], seconds[name, case]) for case in CASES] for name in clients}
    mib = {case: (LARGE if "large" in case else MANY * SMALL) / 2**20 for case in CASES}
    return {
        **{f"{name}_over_obstore": math.prod(ratios[name]) ** 0.25 for name in clients if name != "obstore"},
        "s3fs_over_obstore_worst": min(ratios["s3fs"]),
        "s3fs_cpu_over_obstore": cpu["s3fs"] / cpu["obstore"],
        "load_average": load,
        **{
            f"{name} {case} MiB/s": mib[case] / statistics.median(seconds[name, case])
            for case in CASES
            for name in clients
        },
    }


def _do(case: str, client: Client, prefix: str, small: bytes, large: bytes) -> None:
    what, _, size = case.partition(" ")
    if size == "large":
        client.put(f"{prefix}/large", large) if what == "put" else client.get(f"{prefix}/large")
        return

    def one(number: int) -> None:
        client.put(f"{prefix}/{number}", small) if what == "put" else client.get(f"{prefix}/{number}")

    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        list(pool.map(one, range(MANY)))


def _ratio(theirs: list[float], ours: list[float]) -> float:
    """How many times as fast as they we are: the median of the rounds."""
    return statistics.median(their / our for their, our in zip(theirs, ours, strict=True))


def main() -> None:
    """Measure on a local server of its own, and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with local_store(HOME):
        for name, value in measure(rounds).items():
            print(f"{name:28} {value:10.3g}")


if __name__ == "__main__":
    main()
