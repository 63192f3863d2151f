"""The last days of a log, by frozen, updated and retrained models."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.benches.days import Days, bench_days
from pipelines.recipe import Recipe
from recsys.core.errors import DataError
from recsys.data.table import BadRows, Dataset, read_dataset, write_dataset

DAY = 86_400


def _log(folder: Path, rows: list[tuple[int, int, int]], items: int) -> Path:
    user, item, day = np.array(rows).T
    write_dataset(
        Dataset(
            interactions=pa.table({"user_id": user, "item_id": item, "timestamp": 1_700_006_400 + day * DAY}),
            items=pa.table({"item_id": np.arange(items), "title": [f"thing {n}" for n in range(items)]}),
            bad_rows=BadRows(),
        ),
        folder,
    )
    return folder


def test_days_when_written_then_events_and_items_come_on_their_day(tmp_path: Path) -> None:
    # item 3 is never used and is there from the beginning; item 2 comes on day 2
    days = Days.of(_log(tmp_path / "all", [(1, 0, 0), (1, 1, 1), (2, 2, 2), (1, 2, 3), (2, 0, 3)], 4), 2)
    first = days.last[0]
    assert [day - first for day in days.last] == [0, 1, 2]
    before = read_dataset(days.write(tmp_path / "before", since=None, until=days.last[1]))
    assert before.interactions["item_id"].to_pylist() == [0, 1]
    assert before.items["item_id"].to_pylist() == [0, 1, 3]
    then = read_dataset(days.write(tmp_path / "then", since=days.last[1], until=days.last[2]))
    assert then.interactions["item_id"].to_pylist() == then.items["item_id"].to_pylist() == [2]


def test_days_when_there_are_too_few_then_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must have events on 4 days at least, got 2"):
        Days.of(_log(tmp_path, [(1, 0, 0), (1, 1, 1)], 2), 2)


@pytest.mark.slow
def test_bench_days_when_retrained_every_other_day_then_the_second_has_two_models(world: Path, recipe: Recipe) -> None:
    lines = bench_days(world, recipe, count=2, every=2)
    kinds = [line.what.split(", ", 1)[-1] for line in lines]
    assert kinds == [
        "training on all days before",
        *("updated", "retrained", "updated, took", "retrained, took"),
        *("updated", "updated, took"),
    ]
    assert all(0 <= line.ours <= 1 for line in lines if line.unit == "NDCG@10")
