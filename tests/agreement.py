"""Real servers over which coordinators agree: etcd, and an S3 server that keeps the conditions of writes."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.homes import BIN, wait_for

BUCKET = "agreement"
KEY, SECRET = "agreement-key", "agreement-secret"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def program(name: str) -> str:
    """Where it is, beside this Python or on the path; skips the test where it is not."""
    found = shutil.which(str(BIN / name)) or shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


@contextmanager
def running(command: list[str], log: Path, url: str, seconds: float = 60.0) -> Iterator[None]:
    """A server, from its first answer at the address until the end of the block."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            deadline = time.monotonic() + seconds
            while True:
                with suppress(OSError):
                    urllib.request.urlopen(url, timeout=2).close()
                    break
                assert process.poll() is None, log.read_text()[-2000:]
                assert time.monotonic() < deadline, log.read_text()[-2000:]
                time.sleep(0.1)
            yield
        finally:
            process.kill()
            process.wait()


@contextmanager
def etcd(folder: Path) -> Iterator[str]:
    """The address of an etcd of one member."""
    client, peer = free_ports(2)
    url, peers = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    command = [
        program("etcd"), "--data-dir", str(folder / "etcd"), "--listen-client-urls", url, "--advertise-client-urls", url,
        "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", f"default={peers}",
    ]  # fmt: skip
    with running(command, folder / "etcd.log", f"{url}/health"):
        yield url


def _makes_bucket(client: Any) -> bool:
    """The gateway answers before the volumes behind it take anything."""
    with suppress(ClientError):
        client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="first", Body=b"1")
        return True
    return False


@contextmanager
def conditional_s3(folder: Path) -> Iterator[dict[str, str]]:
    """The variables of a SeaweedFS, which keeps conditions, with a bucket."""
    names = ("master", "master-grpc", "volume", "volume-grpc", "filer", "filer-grpc", "s3", "s3-grpc")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    rights = {"name": "tests", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [rights]}))
    (folder / "weed").mkdir()
    command = [
        program("weed"),
        "server",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-dir={folder / 'weed'}",
        "-filer",
        "-s3",
    ]
    command += [f"-s3.config={folder / 's3.json'}", "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += [
        f"-{name.replace('-grpc', '.port.grpc')}={port}" for name, port in ports.items() if name.endswith("-grpc")
    ]
    command += [f"-{name}.port={port}" for name, port in ports.items() if not name.endswith("-grpc")]
    command += ["-volume.max=5", "-master.volumeSizeLimitMB=64"]
    url = f"http://127.0.0.1:{ports['s3']}"
    with running(command, folder / "weed.log", f"{url}/healthz"):
        client = boto3.client(
            "s3", endpoint_url=url, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1"
        )
        wait_for("the bucket", lambda: _makes_bucket(client))
        yield {
            "CLOUDEDGE_BUCKET": BUCKET, "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip
