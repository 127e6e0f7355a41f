"""tflite-runtime 2.14, for boards that have no wheel of its successor.

It wants NumPy 1 and Python 3.11 or older, so it runs in an environment of its own, that of `CLOUDEDGE_TFLITE_PYTHON`:
each predictor is a child process there that gets the model and then batches over a pipe. Where the package can be
imported in this process, as on a plain old board, it is used directly.

On x86 its int8 kernels are never those of XNNPACK: give such sites float16 or float32. It refuses what is newer than
it, such as the default dynamic range quantisation of dense layers (FULLY_CONNECTED version 12).
"""

from __future__ import annotations

import os
import subprocess
import weakref
from functools import lru_cache
from importlib.metadata import version as package_version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from data_catalog.errors import ModelRefused, SettingError, SiteFailed
from infra import flatbuffer
from infra.runtimes import _tflite
from infra.settings import inherited, read_settings

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from infra.runtimes import Predictor

FORMAT = "tflite"
RELEASE = True
PACKAGE = "tflite-runtime"
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "LANG")
ENDING_SECONDS = 5.0  # until a child that was told to end is killed


def version() -> str:
    """Version of tflite-runtime, here or in its own environment.

    Raises:
        SettingError: it is in neither.
    """
    return package_version(PACKAGE) if find_spec("tflite_runtime") else _version_in(_python())


def load(model: bytes, batch: int) -> Predictor:
    """A predictor over one interpreter, in this process or in a child of its own.

    Args:
        model: as for LiteRT.
        batch: likewise.

    Raises:
        ModelRefused: this runtime cannot run it; it is older than LiteRT and refuses more.
        SettingError: the runtime is not installed here, and `CLOUDEDGE_TFLITE_PYTHON` names no environment with it.
    """
    version()  # says in one line what is wrong with the environment
    flatbuffer.read(model)  # of a file that was cut short it takes all memory that there is, or crashes
    if not find_spec("tflite_runtime"):
        return _load_in_child(model, batch)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from tflite_runtime.interpreter import Interpreter

    try:
        answer = _tflite.predictor(Interpreter, model, batch)
    except _tflite.REFUSALS as error:
        raise _refused(str(error)) from error

    def predict(x: NDArray[np.generic]) -> NDArray[np.float32]:
        try:
            logits: NDArray[np.float32] = answer(x)
        except _tflite.REFUSALS as error:
            raise _refused(str(error)) from error
        return logits

    return predict


def _load_in_child(model: bytes, batch: int) -> Predictor:
    """The same in a process of the other environment, which ends with the predictor or with this process."""
    child = subprocess.Popen(
        [str(_python()), "-I", _tflite.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, env=_environment(), cwd="/", start_new_session=True,
    )  # fmt: skip

    def ask(header: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        try:
            _tflite.write_message(child.stdin, header, payload)
            answer: tuple[dict[str, Any], bytes] = _tflite.read_message(child.stdout)
        except (OSError, EOFError) as error:
            code = child.wait(ENDING_SECONDS)
            if "batch" in header:  # it checks a flatbuffer less well than LiteRT, and may still crash on a damaged one
                raise _refused(f"its process ended with code {code}") from error
            raise SiteFailed(
                f"the child process of {PACKAGE} {version()} ended with code {code} while it answered a batch of"
                f" {header['shape'][0]} rows; run again, or give the site another runtime"
            ) from error
        if "refused" in answer[0]:
            raise _refused(answer[0]["refused"])
        return answer

    try:
        ask({"bytes": len(model), "batch": batch}, model)
    except BaseException:
        _end(child)
        raise

    def predict(x: NDArray[np.generic]) -> NDArray[np.float32]:
        records = np.ascontiguousarray(x)
        header = {"bytes": records.nbytes, "dtype": records.dtype.str, "shape": records.shape}
        answer, logits = ask(header, records.tobytes())
        return np.frombuffer(bytearray(logits), np.float32).reshape(answer["shape"])

    weakref.finalize(predict, _end, child)
    return predict


def _end(child: subprocess.Popen[bytes]) -> None:
    """Close the pipe, at whose end the child ends, and wait for it."""
    for pipe in (child.stdin, child.stdout):
        try:
            if pipe:
                pipe.close()
        except BrokenPipeError:  # what was still to be written is wanted no more
            continue
    try:
        child.wait(ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _environment() -> dict[str, str]:
    """What a child may know: nothing of the store's credentials."""
    ours = inherited()
    return {"TF_CPP_MIN_LOG_LEVEL": "2"} | {name: ours[name] for name in ENVIRONMENT if name in ours}


def _python() -> Path:
    python = read_settings().tflite_python
    if python is None:
        raise SettingError(
            f"{PACKAGE} is not installed here and CLOUDEDGE_TFLITE_PYTHON is not set; let it name the Python of an"
            " environment made from requirements/tflite.txt (`make tflite`)"
        )
    return python


@lru_cache(maxsize=4)
def _version_in(python: Path) -> str:
    """The version in another environment; asking takes a start of its Python."""
    asked = [str(python), "-I", "-c", f"import importlib.metadata as m; print(m.version({PACKAGE!r}))"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, env=_environment(), cwd="/")
    except OSError as error:
        raise SettingError(f"CLOUDEDGE_TFLITE_PYTHON={python} cannot be started ({error.strerror})") from error
    if done.returncode:
        raise SettingError(f"CLOUDEDGE_TFLITE_PYTHON={python} has no {PACKAGE}; install requirements/tflite.txt there")
    return done.stdout.strip()


def _refused(why: str) -> ModelRefused:
    return ModelRefused(f"{PACKAGE} {version()} cannot run this model ({' '.join(why.split())[:160]})")
