"""The last days of a log, by frozen, updated and retrained models."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.benches.days import Days, Schedule, bench_days
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
    log = _log(tmp_path / "all", [(1, 0, 0), (1, 1, 1), (2, 2, 2), (1, 2, 3), (2, 0, 3)], 4)
    days = Days.of(log, Schedule(count=2))
    assert days.last == (-2, -1, 0)
    before = read_dataset(days.write(tmp_path / "before", since=None, until=days.last[1]))
    assert before.interactions["item_id"].to_pylist() == [0, 1]
    assert before.items["item_id"].to_pylist() == [0, 1, 3]
    then = read_dataset(days.write(tmp_path / "then", since=days.last[1], until=days.last[2]))
    assert then.interactions["item_id"].to_pylist() == then.items["item_id"].to_pylist() == [2]


def test_days_when_several_are_one_then_they_are_counted_back_from_the_last(tmp_path: Path) -> None:
    # days 0 to 6 by threes from the last: 0 | 1 2 3 | 4 5 6
    log = _log(tmp_path, [(1, day, day) for day in range(7)], 7)
    days = Days.of(log, Schedule(count=1, length=3))
    assert days.day_E.tolist() == [-2, -1, -1, -1, 0, 0, 0]
    assert days.last == (-1, 0)
    # day 0 is 2023-11-15, so day 4 is the 19th
    assert days.name(0) == "3 days from 2023-11-19"


def test_asked_when_a_user_is_new_or_has_the_item_then_the_event_asks_for_nothing(tmp_path: Path) -> None:
    # on the last day, user 1 asks for item 2; user 3 is new, with an item more once it has one; user 2 has item 0
    log = _log(tmp_path, [(1, 0, 0), (2, 0, 1), (2, 1, 1), (1, 2, 2), (2, 0, 2), (3, 1, 2), (3, 2, 2)], 3)
    queries = Days.of(log, Schedule(count=1)).queries(0)
    assert queries.users_U.tolist() == [0, 2]
    assert queries.targets_U.tolist() == [2, 2]
    assert [one.items.tolist() for one in queries.histories] == [[0], [1]]


def test_days_when_there_are_too_few_then_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must have events on 4 days at least, got 2"):
        Days.of(_log(tmp_path, [(1, 0, 0), (1, 1, 1)], 2), Schedule(count=2))


@pytest.mark.slow
def test_bench_days_when_retrained_every_other_day_then_the_second_has_two_models(
    world: Path, recipe: Recipe, tmp_path: Path
) -> None:
    lines = bench_days(world, recipe, Schedule(count=2, every=2), runs=tmp_path / "runs")
    kinds = [line.what.split(", ", 1)[-1] for line in lines]
    assert kinds[:-3] == [
        "processor time",
        *("updated", "retrained", "updated, processor time", "retrained, processor time"),
        *("updated", "updated, processor time"),
    ]
    assert all(0 <= line.ours <= 1 for line in lines if line.unit == "NDCG@10")
    first, second = (float(line.what.split("(")[1].split()[0]) for line in (lines[1], lines[5]))
    mean = (first * lines[1].ours + second * lines[5].ours) / (first + second)
    assert lines[-3].what.startswith(f"2 days ({first + second:.0f} events), updated; less frozen, 95 %")
    assert lines[-3].ours == pytest.approx(mean)
    assert lines[-1].what.startswith(f"1 days ({first:.0f} events), retrained; less updated")
    # with its runs kept it says the same again, and no model is made anew
    runs = tmp_path / "runs"
    models = [*runs.glob("*/run/model/model.safetensors"), *runs.glob("updated-*/model/model.safetensors")]
    made = [model.stat().st_mtime_ns for model in models]
    assert len(made) == 4
    assert bench_days(world, recipe, Schedule(count=2, every=2), runs=runs) == lines
    assert [model.stat().st_mtime_ns for model in models] == made
