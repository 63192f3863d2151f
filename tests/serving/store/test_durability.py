"""kill -9 while events are stored: none that was acknowledged is lost, none is there twice, no group is torn."""

from pathlib import Path

import pytest

from tests.support.killed_writer import trials_of


def survives(url: str, *, trials: int, writers: int = 1) -> None:
    verdict = trials_of(url, trials, seed=7, writers=writers)
    print(  # noqa: T201 (pytest -s shows what the trials covered)
        f"{verdict.trials} writers killed; of {verdict.events} acknowledged events in {verdict.groups} groups "
        f"{len(verdict.lost)} lost, {len(verdict.doubled)} doubled; {len(verdict.torn)} groups torn"
    )
    wrong = verdict.ended_alone + verdict.lost + verdict.doubled + verdict.torn
    assert not wrong, verdict
    assert verdict.trials == trials
    assert verdict.events > trials


def test_add_when_the_writer_is_killed_then_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    survives(f"sqlite:///{tmp_path / 's.db'}", trials=10)


def test_add_when_writers_beside_each_other_are_killed_then_keeps_what_they_acknowledged(tmp_path: Path) -> None:
    survives(f"sqlite:///{tmp_path / 's.db'}", trials=9, writers=3)


@pytest.mark.postgres
def test_add_on_postgres_when_the_writer_is_killed_then_keeps_what_it_acknowledged(postgres_url: str) -> None:
    survives(postgres_url, trials=3)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("writers", [1, 4])
def test_add_when_writers_are_killed_a_thousand_times_then_nothing_is_lost(tmp_path: Path, writers: int) -> None:
    survives(f"sqlite:///{tmp_path / 's.db'}", trials=1000, writers=writers)


@pytest.mark.long
@pytest.mark.postgres
@pytest.mark.timeout(1800)
def test_add_on_postgres_when_writers_are_killed_a_hundred_times_then_nothing_is_lost(postgres_url: str) -> None:
    survives(postgres_url, trials=100, writers=2)
