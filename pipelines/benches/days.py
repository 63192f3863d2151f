"""Bench days: the last days of a log, ranked for by a model left as it was, by one updated daily and by one retrained.

Every event of a day whose user has one before it asks for its item, seen items removed. The three models start as one,
trained on all before the first of the days, which nobody is asked about. Items that are new to a model get codes and
vectors by it as they are, so that all three can recommend them.

Axes: N item of the whole data set, E event.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from pipelines.benches.measure import Line
from pipelines.flow import train
from pipelines.recipe import Recipe
from pipelines.sizing import sized_for
from pipelines.update.flow import update_run
from recsys.contracts import History
from recsys.core.arrays import IntArray
from recsys.core.errors import DataError
from recsys.core.telemetry import LOG
from recsys.data import schema
from recsys.data.events import EventLog, LogHistories
from recsys.data.prepare import PrepareConfig, prepare
from recsys.data.splits import SECONDS_PER_DAY, Questions
from recsys.data.table import BadRows, Dataset, read_dataset, write_dataset
from recsys.evaluation.leave_one_out import evaluate_recommender
from recsys.recommender.bundle import Bundle, load_bundle

DAYS, MOST_QUESTIONS = 5, 2000
OVERRIDES = ("alignment.steps=0", 'baselines.fitted=["popularity"]', "experts.trained=[]")
"""What no update does is left out of the full trainings too."""


@dataclass(frozen=True, kw_only=True)
class Days:
    """A data set by days: its log, and when each item came.

    Shape:
        day_E: (rows,) the day of each row of the interactions. first_N: (items,) the day of an item's first event.
        last: the days that are asked about, behind the one on which the models first part.
    """

    whole: Dataset
    log: EventLog
    day_E: IntArray
    first_N: IntArray
    last: tuple[int, ...]

    @classmethod
    def of(cls, data: Path, count: int) -> "Days":
        """Read a data set.

        Raises:
            DataError: it has too few days.
        """
        whole = read_dataset(data)
        log = prepare(whole, PrepareConfig()).log
        day_E = np.asarray(whole.interactions[schema.TIMESTAMP].to_numpy()) // SECONDS_PER_DAY
        days = np.unique(day_E)
        if len(days) < count + 2:
            raise DataError(f"{data} must have events on {count + 2} days at least, got {len(days)}; use a longer log")
        first_N = np.full(log.num_items, np.iinfo(np.int64).min)
        used_N = log.counts_N > 0
        first_N[used_N] = np.iinfo(np.int64).max
        np.minimum.at(first_N, log.items_E, log.timestamps_E // SECONDS_PER_DAY)
        return cls(whole=whole, log=log, day_E=day_E, first_N=first_N, last=tuple(days[-count - 1 :].tolist()))

    def write(self, folder: Path, *, since: int | None, until: int) -> Path:
        """Write the days from ``since`` (None: the beginning) to before ``until`` as a data set."""
        since = int(np.iinfo(np.int64).min) if since is None else since
        rows = self.whole.interactions.filter(pa.array((self.day_E >= since) & (self.day_E < until)))
        items = self.whole.items.filter(pa.array((self.first_N >= since) & (self.first_N < until)))
        write_dataset(Dataset(interactions=rows, items=items, bad_rows=BadRows()), folder)
        return folder

    def asked(self, day: int) -> IntArray:
        """Return the events of a day that ask for their item: those whose user has one before; shape (asked,)."""
        of_day_E = self.log.timestamps_E // SECONDS_PER_DAY == day
        return np.flatnonzero(of_day_E & (self._users_and_places()[1] > 0))[:MOST_QUESTIONS]

    def _users_and_places(self) -> tuple[IntArray, IntArray]:
        users_E = np.repeat(np.arange(self.log.num_users), self.log.lengths_U)
        return users_E, np.arange(len(users_E)) - self.log.offsets_U1[users_E]

    def ndcg(self, bundle: Bundle, day: int) -> float:
        """Return a bundle's NDCG@10 on the events of a day."""
        ids = self.whole.items[schema.ITEM].to_pylist()
        known_N = bundle.vocabulary.find(ids).rows_V
        new_N = (known_N < 0) & (self.first_N <= day)
        if new_N.any():
            bundle = bundle.with_items(self.whole.items.filter(pa.array(new_N)))
            known_N = bundle.vocabulary.find(ids).rows_V
        users_E, place_E = self._users_and_places()
        asked_X = self.asked(day)
        before = LogHistories(log=self.log, users_U=users_E[asked_X], lengths_U=place_E[asked_X])
        histories = [History(items=known_N[one.items], timestamps=one.timestamps) for one in before]
        questions = Questions(
            users_U=users_E[asked_X], histories=histories, targets_U=known_N[self.log.items_E[asked_X]]
        )
        found = evaluate_recommender(
            bundle.ranker, questions, num_items=len(bundle.catalogue.item_ids), keep_seen=False, seed=0
        )
        return found.row.accuracy["ndcg@10"].value


def bench_days(data: Path, recipe: Recipe, *, count: int = DAYS, every: int = 1) -> list[Line]:
    """Return NDCG@10 day by day of frozen, updated and retrained models, and what updates and trainings took.

    Args:
        data: a data set.
        recipe: how the first model and the retrained ones are trained.
        count: how many days are asked about.
        every: a model is retrained on the first day and on every so many after it.
    """
    days = Days.of(data, count)
    lines: list[Line] = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        base, took = _train(days, folder / "base", recipe, until=days.last[0])
        lines.append(Line(what="training on all days before", ours=took, unit="s"))
        updated = base
        for place, day in enumerate(days.last[1:]):
            yesterday = days.last[place]
            began = time.perf_counter()
            events = days.write(folder / f"day-{place}", since=yesterday, until=day)
            updated = update_run(updated, events, folder / f"updated-{place}", use_ray=False).run
            seconds = {"updated": time.perf_counter() - began}
            runs = {"frozen": base, "updated": updated}
            if place % every == 0:
                runs["retrained"], seconds["retrained"] = _train(days, folder / f"retrained-{place}", recipe, until=day)
            lines += _compared(days, day, runs, seconds)
    return lines


def _compared(days: Days, day: int, runs: Mapping[str, Path], seconds: Mapping[str, float]) -> list[Line]:
    """Return NDCG@10 of a day's models beside the frozen one, and what each took."""
    scores = {name: days.ndcg(load_bundle(run / "bundle", trace=False), day) for name, run in runs.items()}
    date = f"{datetime.fromtimestamp(day * SECONDS_PER_DAY, UTC):%Y-%m-%d} ({len(days.asked(day)):,} events)"
    LOG.info("bench days: %s %s", date, scores)
    frozen = scores["frozen"]
    lines = [
        Line(what=f"{date}, {name}", ours=scores[name], peer=frozen, peer_name="frozen", unit="NDCG@10")
        for name in seconds
    ]
    return lines + [Line(what=f"{date}, {name}, took", ours=taken, unit="s") for name, taken in seconds.items()]


def _train(days: Days, folder: Path, recipe: Recipe, *, until: int) -> tuple[Path, float]:
    """Train in full on all days before one; returns the run and the seconds."""
    began = time.perf_counter()
    data = days.write(folder / "data", since=None, until=until)
    train(data, folder / "run", sized_for(data, recipe, quick=False), use_ray=False)
    return folder / "run", time.perf_counter() - began
