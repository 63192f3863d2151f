"""A small trained run on the synthetic world, shared by the tests that need one."""

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from pipelines.flow import train
from pipelines.recipe import Recipe, load_recipe
from recsys.data.synthetic import SyntheticConfig, make_synthetic
from recsys.data.table import write_dataset

# Machines differ in speed, and CI must say the same twice: no deadlines, and the same examples every time.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


PROCESS = "PYTEST_XDIST_WORKER"
"""The variable that names one of several processes that share the tests (``pytest -n 2``)."""


class FileScheduling(LoadScopeScheduling):
    """Hands out whole files, for their fixtures are made once a process, and all files that start Ray to one process.

    ``--dist loadgroup`` would do, but with pytest 9.2 it groups nothing (pytest-xdist issue 1386).
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return "ray" if "mark.ray" in (self.config.rootpath / file).read_text() else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FileScheduling:
    config.option.loadscopereorder = False  # the order of pytest_collection_modifyitems is kept
    return FileScheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let several processes begin with what takes longest: the files that start Ray, then those with a slow test."""
    if PROCESS in os.environ:
        marks: dict[Path, set[str]] = {}
        for item in items:
            marks.setdefault(item.path, set()).update(mark.name for mark in item.iter_markers())
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


@pytest.fixture(scope="session")
def pruned(world: Path, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose slates come from paths, some of which Reasoning Pruning has cut."""
    recipe = load_recipe("smoke", ("tokens.pruning_users=0", "tokens.search.pruning=mean"))
    make = partial(train, world, recipe=recipe, use_ray=False, reuse_from=run)
    return made_once("pruned", make, tmp_path_factory)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Hold torch to one thread, on which equal seeds give equal weights."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
