"""Steps are files: what a task or flow is called, and that it travels by name, not by value."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import cloudpickle
import pytest
from prefect import Flow, Task

pytestmark = pytest.mark.architecture

ROOT = Path(__file__).parents[2]
TASKS = sorted(path.stem for path in (ROOT / "tasks").glob("[!_]*.py"))
FLOWS = sorted(path.stem for path in (ROOT / "flows").glob("[!_]*.py"))


def test_there_are_tasks():
    assert len(TASKS) >= 9


@pytest.mark.parametrize("stem", TASKS)
def test_a_task_file_has_a_plain_function_and_a_task_of_its_name(stem):
    module = importlib.import_module(f"tasks.{stem}")
    function, task = getattr(module, stem), getattr(module, f"{stem}_task")
    assert inspect.isfunction(function)
    assert function.__module__ == f"tasks.{stem}"
    assert isinstance(task, Task)
    assert task.fn is function


@pytest.mark.parametrize("stem", TASKS)
def test_every_task_of_a_file_is_named_after_its_function(stem):
    module = importlib.import_module(f"tasks.{stem}")
    for name, value in vars(module).items():
        if isinstance(value, Task):
            assert name == f"{value.fn.__name__}_task"
            assert getattr(module, value.fn.__name__) is value.fn, "the bare function is there for tests"


@pytest.mark.parametrize("stem", TASKS)
def test_a_task_file_begins_with_what_it_does(stem):
    text = ast.get_docstring(ast.parse((ROOT / "tasks" / f"{stem}.py").read_text(encoding="utf-8")))
    assert text
    assert len(text.splitlines()[0]) <= 110


@pytest.mark.parametrize("stem", TASKS)
def test_tasks_pickle_by_reference(stem):
    """By value a pickle would carry the code, and with it perhaps another version of it to a worker."""
    module = importlib.import_module(f"tasks.{stem}")
    for task in [value for value in vars(module).values() if isinstance(value, Task)]:
        function = cloudpickle.dumps(task.fn)
        assert cloudpickle.loads(function) is task.fn
        assert len(function) < 200
        back = cloudpickle.loads(cloudpickle.dumps(task))
        assert isinstance(back, Task)
        assert back.name == task.name
        assert back.fn is task.fn, "the code came along"


@pytest.mark.parametrize("stem", FLOWS)
def test_a_flow_file_has_a_flow_of_its_name(stem):
    """Prefect finds a flow by its entry point, file and name; it never travels as a pickle."""
    flow = getattr(importlib.import_module(f"flows.{stem}"), stem)
    assert isinstance(flow, Flow)
    assert (flow.fn.__module__, flow.fn.__name__) == (f"flows.{stem}", stem)


@pytest.mark.parametrize("name", ["second_try.run_rest", "engine.escalate_known", "engine.escalate_picked"])
def test_what_dask_maps_pickles_by_reference(name):
    module, _, function = name.partition(".")
    mapped = getattr(importlib.import_module(f"infra.{module}"), function)
    pickled = cloudpickle.dumps(mapped)
    assert cloudpickle.loads(pickled) is mapped
    assert len(pickled) < 200
