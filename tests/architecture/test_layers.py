"""Who may import what, who reads the environment, and that everything public says what it is for."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.architecture

ROOT = Path(__file__).parents[2]
PACKAGES = ("cloudedge", "flows", "tasks", "infra", "data_catalog")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
NAMES = [path.relative_to(ROOT).as_posix() for path in FILES]
STACK = "infra/stack/"  # starts the servers, so it speaks with them before there is a store

STORE_CLIENTS = {"s3fs", "fsspec", "botocore", "boto3", "aiobotocore"}
CLUSTER_CLIENTS = {"dask", "distributed"}
TEST_TOOLS = {"pytest", "hypothesis"}
# Who else may touch the environment, and why. These write what a library reads while it is imported; none
# reads a setting of ours.
ENVIRONMENT_EXCEPTIONS = {
    "infra/runtimes/litert.py": "quiets the runtime's log before its first import",
    "infra/runtimes/tflite_runtime.py": "likewise",
    "infra/recipes/__init__.py": "chooses Keras 2, quiet and on the CPU, before TensorFlow's first import",
}


@cache
def parsed(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text(encoding="utf-8"), name)


def imported(name: str) -> set[str]:
    """Full names of all modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(parsed(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: relative import"
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def tops(name: str) -> set[str]:
    return {module.partition(".")[0] for module in imported(name)}


def test_there_is_something_to_look_at():
    assert len(FILES) > 40
    assert {"infra/storage.py", "infra/compute.py", "infra/settings.py"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_called_after_what_it_is_not(name):
    assert not {"utils", "util", "helpers", "helper", "common", "misc", "lib"} & {*Path(name).with_suffix("").parts}


@pytest.mark.parametrize("name", NAMES)
def test_only_the_storage_module_knows_the_stores_client(name):
    if name != "infra/storage.py" and not name.startswith(STACK):
        assert not STORE_CLIENTS & tops(name)


@pytest.mark.parametrize("name", NAMES)
def test_only_the_compute_module_knows_dask(name):
    if name != "infra/compute.py":
        assert not CLUSTER_CLIENTS & tops(name)


@pytest.mark.parametrize("name", NAMES)
def test_only_the_suites_know_the_test_tools_and_nobody_the_suites(name):
    if not name.startswith("infra/testing/"):
        assert not TEST_TOOLS & tops(name)
        assert not [module for module in imported(name) if module.startswith("infra.testing")]


def touches_environment(name: str) -> bool:
    ways = {"environ", "environb", "getenv", "putenv", "unsetenv"}
    return bool({f"os.{way}" for way in ways} & imported(name)) or any(
        isinstance(node, ast.Attribute)
        and node.attr in ways
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        for node in ast.walk(parsed(name))
    )


@pytest.mark.parametrize("name", NAMES)
def test_only_the_settings_module_reads_the_environment(name):
    if name != "infra/settings.py" and name not in ENVIRONMENT_EXCEPTIONS:
        assert not touches_environment(name)


def test_the_exceptions_are_needed_and_the_search_finds_them():
    for name in ("infra/settings.py", *ENVIRONMENT_EXCEPTIONS):
        assert touches_environment(name), f"{name} is no exception any more; strike it from the list"


@pytest.mark.parametrize("name", NAMES)
def test_everything_public_has_a_docstring(name):
    def lacking(node: ast.AST, path: str, depth: int = 0) -> list[str]:
        bare = []
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                if child.name.startswith("_"):
                    continue
                if not ast.get_docstring(child):
                    bare.append(f"{path}.{child.name}")
                if isinstance(child, ast.ClassDef):
                    bare += lacking(child, f"{path}.{child.name}", depth + 1)
        return bare

    tree = parsed(name)
    assert ast.get_docstring(tree), f"{name} does not say what it is for"
    assert lacking(tree, name) == []


def test_plug_in_folders_hold_plug_ins_only():
    """A family's folder is its registry: every file in it that does not begin with `_` is found by name."""
    from infra.averaging import AVERAGES
    from infra.codecs import CODECS
    from infra.generators import GENERATORS
    from infra.lossy import LOSSY
    from infra.placement import RULES
    from infra.readers import READERS
    from infra.recipes import RECIPES
    from infra.runtimes import RUNTIMES
    from infra.steps import STEPS
    from infra.transforms import TRANSFORMS

    for registry in (CODECS, LOSSY, READERS, TRANSFORMS, RUNTIMES, RECIPES, RULES, GENERATORS, AVERAGES, STEPS):
        folder = ROOT / registry.package.replace(".", "/")
        assert {path.stem for path in folder.glob("[!_]*.py")} <= set(registry.names())


LEAN = (
    "data_catalog.catalog",
    "infra.engine",
    "infra.runtimes.litert",
    "infra.runtimes",
    "infra.recipes",
    "tasks.infer_shards",
)


def test_an_edge_site_never_imports_tensorflow():
    """Nor does importing cost more than it must: neither Dask nor the store's client come along unasked."""
    code = (
        "import sys, importlib\n"
        f"for name in {LEAN!r}: importlib.import_module(name)\n"
        "from infra.runtimes import RUNTIMES; RUNTIMES.get('litert').version(); RUNTIMES.names()\n"
        "heavy = {'tensorflow', 'tf_keras', 'keras', 's3fs', 'distributed', 'pytest'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_the_engine_needs_no_orchestrator():
    """Nor, for public data, cryptography."""
    code = "import sys, infra.engine, infra.compute, infra.storage; print({'prefect', 'cryptography'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.strip() == "set()", done.stderr


def test_the_import_contracts_hold():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
