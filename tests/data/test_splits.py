"""Global time cuts: what is learned from lies before what is asked, for all users alike."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.core.errors import ConfigError
from recsys.data.events import EventLog, TimeCuts, build_log
from recsys.data.prepare import PrepareConfig, load_prepared, prepare, save_prepared
from recsys.data.splits import held_out_events, protocol, questions, time_cuts, training_log
from recsys.data.table import read_dataset

DAY = 86_400


def log_of(users: list[int], times: list[int], cuts: TimeCuts | None) -> EventLog:
    made = build_log(
        np.array(users),
        np.arange(len(users)),
        np.array(times),
        np.arange(len(users)),
        num_users=max(users) + 1,
        num_items=len(users),
    )
    return EventLog(
        offsets_U1=made.offsets_U1,
        items_E=made.items_E,
        timestamps_E=made.timestamps_E,
        num_items=made.num_items,
        cuts=cuts,
    )


def test_questions_when_the_cut_is_global_then_ask_the_first_item_after_it() -> None:
    # user 0: items 0, 1 before validation, 2 in validation, 3 and 4 in the test; user 1: only in the test;
    # user 2: only before.
    log = log_of([0, 0, 0, 0, 0, 1, 2], [1, 2, 11, 21, 22, 23, 3], TimeCuts(validation=10, test=20))
    assert training_log(log).items_E.tolist() == [0, 1, 6]
    assert held_out_events(log).tolist() == [False, False, False, True, True, True, False]
    queries = questions(log, "test")
    assert (queries.users_U.tolist(), queries.targets_U.tolist()) == ([0], [3])
    assert queries.histories[0].items.tolist() == [0, 1, 2]
    tuned = questions(log, "validation")
    assert (tuned.users_U.tolist(), tuned.targets_U.tolist()) == ([0], [2])
    assert tuned.histories[0].items.tolist() == [0, 1]


@given(
    rows=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 50)), min_size=1, max_size=60),
    validation=st.integers(1, 40),
    gap=st.integers(1, 10),
)
def test_splits_when_the_cut_is_global_then_nothing_learned_or_shown_lies_after_what_is_asked(
    rows: list[tuple[int, int]], validation: int, gap: int
) -> None:
    cuts = TimeCuts(validation=validation, test=validation + gap)
    log = log_of([user for user, _ in rows], [time for _, time in rows], cuts)
    assert (training_log(log).timestamps_E < validation).all()
    for split, begin in (("validation", validation), ("test", validation + gap)):
        queries = questions(log, split)  # type: ignore[arg-type]
        for user, history, target in zip(queries.users_U, queries.histories, queries.targets_U, strict=True):
            assert (history.timestamps < begin).all()
            place = log.offsets_U1[user] + len(history.items)
            assert log.items_E[place] == target
            assert log.timestamps_E[place] >= begin


def test_cuts_when_times_are_days_then_no_day_is_divided() -> None:
    times = np.repeat(np.arange(20), 10) * DAY
    assert time_cuts(times, test_share=0.1, validation_share=0.1) == TimeCuts(validation=15 * DAY, test=17 * DAY)


@pytest.mark.parametrize("times", [np.full(100, 5 * DAY), np.repeat([1, 2], 50)])
def test_cuts_when_there_are_too_few_different_times_then_refused_with_the_counts(times: np.ndarray) -> None:
    with pytest.raises(ConfigError, match=r"must leave events in training, validation and test, got \{'training'"):
        time_cuts(times, test_share=0.1, validation_share=0.1)


def test_prepared_when_saved_with_a_cut_then_loads_with_it(world: Path, tmp_path: Path) -> None:
    prepared = prepare(read_dataset(world), PrepareConfig(split="time"))
    save_prepared(prepared, tmp_path)
    loaded = load_prepared(tmp_path).log
    assert loaded.cuts == prepared.log.cuts
    assert loaded.cuts is not None
    assert protocol(loaded).startswith("global time cut at ")
    share = float(held_out_events(loaded).mean())
    assert share == pytest.approx(0.1, abs=0.02)
