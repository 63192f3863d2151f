"""A small trained run on the synthetic world, shared by the tests that need one."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from hypothesis import settings

from pipelines.flow import train
from pipelines.recipe import Recipe, load_recipe
from recsys.data.synthetic import SyntheticConfig, make_synthetic
from recsys.data.table import write_dataset

# Machines differ in speed, and CI must say the same twice: no deadlines, and the same examples every time.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


PROCESS = "PYTEST_XDIST_WORKER"
"""The variable that names one of several processes that share the tests (``pytest -n 2``)."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group the tests for several processes: by file, and all files that start Ray together, so that one Ray runs.

    What takes longest starts first: the files with Ray, then those with a slow test.
    """
    marks: dict[Path, set[str]] = {}
    for item in items:
        marks.setdefault(item.path, set()).update(mark.name for mark in item.iter_markers())
    for item in items:
        item.add_marker(pytest.mark.xdist_group("ray" if "ray" in marks[item.path] else str(item.path)))
    if PROCESS in os.environ:
        items.sort(key=lambda item: ("ray" not in marks[item.path], "slow" not in marks[item.path]))


def made_once(name: str, make: Callable[[Path], object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that the first of several processes has made, copied, for tests write beside what they read."""
    if PROCESS not in os.environ:
        folder = tmp_path_factory.mktemp(name)
        make(folder)
        return folder
    made = tmp_path_factory.getbasetemp().parent / name
    with FileLock(f"{made}.lock"):
        if not made.exists():
            unfinished = tmp_path_factory.mktemp(name)
            make(unfinished)
            unfinished.rename(made)
    return Path(shutil.copytree(made, tmp_path_factory.mktemp(name), dirs_exist_ok=True))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = make_synthetic(SyntheticConfig(users=150, items=120))
    return made_once("world", lambda folder: write_dataset(data, folder), tmp_path_factory)


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return load_recipe("smoke")


@pytest.fixture(scope="session")
def run(world: Path, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once("run", lambda folder: train(world, folder, recipe, use_ray=False), tmp_path_factory)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Hold torch to one thread, on which equal seeds give equal weights."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
