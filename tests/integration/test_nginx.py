"""NGINX in front of Prefect and two S3 gateways, with TLS: a gateway is killed under load, and nobody notices."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import os
import shutil
import socket
import string
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from data_catalog.nouns import Site
from infra import enrolment, keys, mailbox, membership
from infra.stack import servers
from tasks.probe_site import probe_machine
from tests.homes import wait_for

pytestmark = pytest.mark.integration

TEMPLATE = Path(__file__).parents[2] / "infra" / "nginx" / "cloudedge.conf.template"
NGINX = shutil.which("nginx", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))
OBJECTS, BYTES = 120, 200_000


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "cloudedge test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ))  # fmt: skip
    return paths


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.fixture
def second_gateway(up_home):
    """Another S3 gateway over the same metadata and objects, on this machine."""
    state = servers.read_state(up_home.path)
    other = servers.Running(replace(state, s3_url=f"http://127.0.0.1:{free_port()}", prefect_url=""), up_home.path)
    servers.restart(other, "s3")
    try:
        other.wait()
        yield other
    finally:
        servers.stop(other)


@pytest.fixture
def fronted(up_home, second_gateway, tmp_path):
    """The variables of a client that reaches everything through NGINX, over TLS."""
    if not NGINX:
        pytest.skip("needs Debian's package nginx-light")
    state = servers.read_state(up_home.path)
    public, secret = certificate(tmp_path)
    s3, prefect = free_port(), free_port()
    gateways = (state.s3_url, second_gateway.state.s3_url)
    filled = string.Template(TEMPLATE.read_text().replace("$http", "$$http").replace("$connection", "$$connection")).substitute(
        CERTIFICATE=public, CERTIFICATE_KEY=secret, S3_LISTEN=f"127.0.0.1:{s3}", PREFECT_LISTEN=f"127.0.0.1:{prefect}",
        S3_SERVERS=" ".join(f"server {url.removeprefix('http://')} max_fails=1 fail_timeout=5s;" for url in gateways),
        PREFECT_SERVERS=f"server {state.prefect_url.removeprefix('http://')};",
    )  # fmt: skip
    places = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; pid {tmp_path}/pid; worker_processes 1; error_log {tmp_path}/error.log;\n"
        f"events {{ worker_connections 256; }}\nhttp {{\naccess_log off;\n{places}{filled}\n}}\n"
    )
    command = [NGINX, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for("nginx", lambda: socket.socket().connect_ex(("127.0.0.1", s3)) == 0, 20)
        yield {
            "AWS_ENDPOINT_URL": f"https://127.0.0.1:{s3}", "AWS_CA_BUNDLE": str(public), "CLOUDEDGE_BUCKET": servers.BUCKET,
            "AWS_ACCESS_KEY_ID": state.access_key, "AWS_SECRET_ACCESS_KEY": state.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "PREFECT_API_URL": f"https://127.0.0.1:{prefect}/api",
            "PREFECT_API_AUTH_STRING": state.prefect_auth, "PREFECT_API_SSL_CERT_FILE": str(public),
        }  # fmt: skip
    finally:
        process.terminate()
        process.wait(20)


def test_a_gateway_killed_under_load_is_not_noticed(fronted, second_gateway, quick_run, up_home, monkeypatch):
    """Then a whole run through the one that is left, Prefect's API over TLS too."""
    from infra.storage import Store

    for name, value in fronted.items():
        monkeypatch.setenv(name, value)
    store = Store(servers.BUCKET)
    body = os.urandom(BYTES)
    done = []

    def put_and_get(number: int) -> bool:
        key, data = f"test-nginx/{number}", number.to_bytes(4, "big") + body
        store.put(key, data)
        done.append(number)
        if len(done) == OBJECTS // 3:
            second_gateway.processes["s3"].kill()
        return hashlib.sha256(store.get(key)).digest() == hashlib.sha256(data).digest()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(put_and_get, range(OBJECTS)))
    assert second_gateway.processes["s3"].wait() != 0
    assert len(store.keys("test-nginx")) == OBJECTS
    for key in store.keys("test-nginx"):
        store.delete(key)

    through = up_home.run("--model", "quick", **fronted)
    assert through["status"] == "complete"
    assert through["rows_out"] == quick_run["rows_out"]
    assert through["computed_results"] == 0


def test_a_site_that_joins_needs_the_certificate_alone(fronted, up_home, monkeypatch, tmp_path):
    """It holds no credentials, and reaches the store through the same address as everybody."""
    from infra.storage import Store

    for name, value in fronted.items():
        monkeypatch.setenv(name, value)
    store = Store(servers.BUCKET)
    token = enrolment.read_token(enrolment.invite(store, up_home.path, Site(name="ward-7", tier="edge"), 600))
    assert token.access.url.startswith(fronted["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("SSL_CERT_FILE", fronted["AWS_CA_BUNDLE"])
    member = enrolment.join(tmp_path, token, "1.0", lambda store, site: probe_machine(store, site, tmp_path))
    try:
        assert enrolment.admit_waiting(store, up_home.path) == ["ward-7"]
        assert mailbox.read(membership.MemberStore(tmp_path, member), "ward-7") == ()
        assert store.exists(keys.profile("ward-7"))
    finally:
        enrolment.remove(store, up_home.path, "ward-7")
