"""Held-out events stay held out: what is trained does not change when they do.

Axes: E event.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.flow import STAGES, train
from pipelines.recipe import load_recipe
from recsys.core.artifacts import Manifest
from recsys.data.table import Dataset, read_dataset, write_dataset

TRAINED = {stage.name for stage in STAGES} - {"data"}
"""Every artifact but the log itself."""


def with_other_items(dataset: Dataset, *, from_end: int) -> Dataset:
    """Return a data set in which each user's event so far from the end (1 is the last) is of another item."""
    rows = dataset.interactions
    users_E = np.array(rows["user_id"].to_pylist())
    by_E = np.lexsort((rows["position"].to_numpy(), rows["timestamp"].to_numpy(), users_E))
    left_E = np.empty(len(by_E), np.int64)
    for place, event in enumerate(by_E):
        left_E[event] = np.count_nonzero(users_E[by_E[place:]] == users_E[event])
    items = dataset.items["item_id"].to_pylist()
    place_of = {item: place for place, item in enumerate(items)}
    changed = [
        items[(place_of[item] + 1) % len(items)] if left == from_end else item
        for item, left in zip(rows["item_id"].to_pylist(), left_E, strict=True)
    ]
    column = pa.array(changed, rows["item_id"].type)
    rows = rows.set_column(rows.column_names.index("item_id"), "item_id", column)
    return Dataset(interactions=rows, items=dataset.items, bad_rows=dataset.bad_rows)


def changed_artifacts(world: Path, run: Path, folder: Path, *, from_end: int) -> set[str]:
    """Train on a world whose held-out events are of other items; return the stages whose files differ."""
    write_dataset(with_other_items(read_dataset(world), from_end=from_end), folder / "world")
    train(folder / "world", folder / "run", load_recipe("smoke"), use_ray=False)
    before, after = Manifest(run).read(), Manifest(folder / "run").read()
    assert before["data"]["files"] != after["data"]["files"]
    return {name for name in TRAINED if before[name]["files"] != after[name]["files"]}


@pytest.mark.slow
def test_train_when_all_test_items_are_others_then_every_trained_artifact_is_equal_to_the_byte(
    world: Path, run: Path, tmp_path: Path
) -> None:
    assert changed_artifacts(world, run, tmp_path, from_end=1) == set()


@pytest.mark.slow
def test_train_when_all_validation_items_are_others_then_only_what_selects_by_them_may_change(
    world: Path, run: Path, tmp_path: Path
) -> None:
    free_of_validation = {"features", "tokenizer", "catalog"}
    assert not changed_artifacts(world, run, tmp_path, from_end=2) & free_of_validation
