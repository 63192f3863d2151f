"""A small trained run on the synthetic world, shared by the tests that need one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from pipelines.flow import train
from pipelines.recipe import Recipe, load_recipe
from recsys.data.synthetic import SyntheticConfig, make_synthetic
from recsys.data.table import write_dataset

# Machines differ in speed, and CI must say the same twice: no deadlines, and the same examples every time.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_dataset(make_synthetic(SyntheticConfig(users=150, items=120)), folder)
    return folder


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return load_recipe("smoke")


@pytest.fixture(scope="session")
def run(world: Path, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(world, folder, recipe, use_ray=False)
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Hold torch to one thread, on which equal seeds give equal weights."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
