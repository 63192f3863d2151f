"""Bench days: the last days of a log, ranked for by a model left as it was, by one updated daily and by one retrained.

Every event of a day whose user has one before it is a question, seen items removed. The three models start as one,
trained on all before the first of the days, which are not evaluated. Items that are new to a model get codes
and vectors by it as they are, so that all three can recommend them. Where a log has few events a day, a day of the
bench may be several of the log. What a model took are the processor seconds of the stages of its run. A bench that is
killed goes on where it was when it is given a folder for its runs.

Axes: N item of the whole data set, E event, Q question, F figure.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from pipelines.benches.measure import Line
from pipelines.flow import train
from pipelines.recipe import Recipe
from pipelines.record import read_records
from pipelines.sizing import sized_for
from pipelines.update.flow import update_run
from recsys.contracts import History
from recsys.core.arrays import Float64Array, IntArray
from recsys.core.errors import DataError
from recsys.core.seeds import rng_for
from recsys.core.telemetry import LOG
from recsys.data import schema
from recsys.data.events import EventLog, LogHistories
from recsys.data.prepare import PrepareConfig, prepare
from recsys.data.splits import SECONDS_PER_DAY, Questions
from recsys.data.table import BadRows, Dataset, read_dataset, write_dataset
from recsys.evaluation.intervals import bootstrap_intervals
from recsys.evaluation.leave_one_out import evaluate_recommender, figures_of
from recsys.recommender.bundle import Bundle, load_bundle

MOST_QUESTIONS = 2000
OVERRIDES = ("alignment.steps=0", 'baselines.fitted=["popularity"]', "experts.trained=[]")
"""What no update does is left out of the full trainings too."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Which days are evaluated, and when models are retrained."""

    count: int = 5
    """Days that are evaluated."""
    every: int = 1
    """A model is retrained on the first day and on every so many after it."""
    length: int = 1
    """Days of the log that make one day of the bench, counted back from the log's last."""


@dataclass(frozen=True, kw_only=True)
class Days:
    """A data set by days: its log, and when each item came.

    Shape:
        day_E: (rows,) the day of each row of the interactions, 0 for the log's last and -1 for the one before.
        first_N: (items,) the day of an item's first event.
        last: the days that are evaluated, behind the one on which the models first part.
    """

    whole: Dataset
    log: EventLog
    day_E: IntArray
    first_N: IntArray
    last: tuple[int, ...]
    end: int
    """The log's last day, counted from 1970."""
    length: int

    @classmethod
    def of(cls, data: Path, schedule: Schedule) -> "Days":
        """Read a data set.

        Raises:
            DataError: it has too few days.
        """
        whole = read_dataset(data)
        log = prepare(whole, PrepareConfig()).log
        end, length = int(log.timestamps_E.max()) // SECONDS_PER_DAY, schedule.length

        def days(times_E: IntArray) -> IntArray:
            return -((end - times_E // SECONDS_PER_DAY) // length)

        day_E = days(np.asarray(whole.interactions[schema.TIMESTAMP].to_numpy()))
        found, wanted = np.unique(day_E), schedule.count + 2
        if len(found) < wanted:
            raise DataError(f"{data} must have events on {wanted} days at least, got {len(found)}; use a longer log")
        first_N = np.full(log.num_items, np.iinfo(np.int64).min)
        used_N = log.counts_N > 0
        first_N[used_N] = np.iinfo(np.int64).max
        np.minimum.at(first_N, log.items_E, days(log.timestamps_E))
        last = tuple(found[-schedule.count - 1 :].tolist())
        return cls(whole=whole, log=log, day_E=day_E, first_N=first_N, last=last, end=end, length=length)

    def name(self, day: int) -> str:
        """Return a day's date, or its first date and its length."""
        first = self.end + 1 + self.length * (day - 1)
        date = f"{datetime.fromtimestamp(first * SECONDS_PER_DAY, UTC):%Y-%m-%d}"
        return date if self.length == 1 else f"{self.length} days from {date}"

    def write(self, folder: Path, *, since: int | None, until: int) -> Path:
        """Write the days from ``since`` (None: the beginning) to before ``until`` as a data set."""
        since = int(np.iinfo(np.int64).min) if since is None else since
        rows = self.whole.interactions.filter(pa.array((self.day_E >= since) & (self.day_E < until)))
        items = self.whole.items.filter(pa.array((self.first_N >= since) & (self.first_N < until)))
        write_dataset(Dataset(interactions=rows, items=items, bad_rows=BadRows()), folder)
        return folder

    def queries(self, day: int) -> Questions:
        """Return the events of a day as questions: those whose user has one before, of an item the user lacks.

        At most :data:`MOST_QUESTIONS`, drawn at random; histories and targets are rows of the whole data set.
        """
        days_E = -((self.end - self.log.timestamps_E // SECONDS_PER_DAY) // self.length)
        users_E = np.repeat(np.arange(self.log.num_users), self.log.lengths_U)
        place_E = np.arange(len(users_E)) - self.log.offsets_U1[users_E]
        events_Q = np.flatnonzero((days_E == day) & (place_E > 0) & self.log.new_E)
        if len(events_Q) > MOST_QUESTIONS:
            events_Q = np.sort(rng_for(0, "bench days", day).choice(events_Q, MOST_QUESTIONS, replace=False))
        before = LogHistories(log=self.log, users_U=users_E[events_Q], lengths_U=place_E[events_Q])
        return Questions(users_U=users_E[events_Q], histories=before, targets_U=self.log.items_E[events_Q])

    def ndcg(self, bundle: Bundle, day: int) -> Float64Array:
        """Return a bundle's NDCG@10 on each question of a day; shape (questions,)."""
        ids = self.whole.items[schema.ITEM].to_pylist()
        known_N = bundle.vocabulary.find(ids).rows_V
        new_N = (known_N < 0) & (self.first_N <= day)
        if new_N.any():
            bundle = bundle.with_items(self.whole.items.filter(pa.array(new_N)))
            known_N = bundle.vocabulary.find(ids).rows_V
        queries = self.queries(day)
        histories = [History(items=known_N[one.items], timestamps=one.timestamps) for one in queries.histories]
        found = evaluate_recommender(
            bundle.ranker,
            Questions(users_U=queries.users_U, histories=histories, targets_U=known_N[queries.targets_U]),
            num_items=len(bundle.catalogue.item_ids),
            keep_seen=False,
            seed=0,
        )
        return figures_of(found.ranks_U)["ndcg@10"]


@dataclass(frozen=True, kw_only=True)
class Answered:
    """How a day's models ranked its events, and what making them took.

    Shape:
        users_Q: (questions,) their users. ndcg[model]: (questions,). took: processor seconds of those made that day.
    """

    name: str
    users_Q: IntArray
    ndcg: Mapping[str, Float64Array]
    took: Mapping[str, float]

    def lines(self) -> list[Line]:
        """Return the models' means beside the frozen one's, and the processor seconds of each."""
        day, frozen = f"{self.name} ({len(self.users_Q):,} events)", float(self.ndcg["frozen"].mean())
        ranked = [
            Line(
                what=f"{day}, {model}", ours=float(self.ndcg[model].mean()), peer=frozen, peer_name="frozen", unit=UNIT
            )
            for model in self.took
        ]
        return ranked + [
            Line(what=f"{day}, {model}, processor time", ours=seconds, unit="s") for model, seconds in self.took.items()
        ]


UNIT = "NDCG@10"


def bench_days(data: Path, recipe: Recipe, schedule: Schedule, *, runs: Path | None = None) -> list[Line]:
    """Return NDCG@10 day by day of frozen, updated and retrained models, and the processor time of each.

    Args:
        data: a data set.
        recipe: how the first model and the retrained ones are trained.
        schedule: which days, and how often a model is retrained.
        runs: where the runs are kept, for a bench that is killed to go on from; None keeps nothing.
    """
    days = Days.of(data, schedule)
    answered: list[Answered] = []
    with _kept(runs) as folder:
        base = updated = _train(days, folder / "base", recipe, until=days.last[0])
        for place, day in enumerate(days.last[1:]):
            events = days.write(folder / f"day-{place}", since=days.last[place], until=day)
            updated = update_run(updated, events, folder / f"updated-{place}", use_ray=False).run
            made = {"updated": updated}
            if place % schedule.every == 0:
                made["retrained"] = _train(days, folder / f"retrained-{place}", recipe, until=day)
            answered.append(_answered(days, day, base, made))
        first = Line(what="training on all days before, processor time", ours=_processor_seconds(base), unit="s")
    return [first, *(line for one in answered for line in one.lines()), *_together(answered)]


@contextmanager
def _kept(folder: Path | None) -> Iterator[Path]:
    """Yield a folder, or one for the block alone."""
    if folder is not None:
        yield folder
        return
    with TemporaryDirectory() as name:
        yield Path(name)


def _answered(days: Days, day: int, base: Path, made: Mapping[str, Path]) -> Answered:
    """Ask a day's models and the first one about its events."""
    runs = {"frozen": base, **made}
    ndcg = {name: days.ndcg(load_bundle(run / "bundle", trace=False), day) for name, run in runs.items()}
    LOG.info("bench days: %s %s", days.name(day), {name: round(float(each.mean()), 4) for name, each in ndcg.items()})
    took = {name: _processor_seconds(run) for name, run in made.items()}
    return Answered(name=days.name(day), users_Q=days.queries(day).users_U, ndcg=ndcg, took=took)


def _processor_seconds(run: Path) -> float:
    """Return what a run's stages took, those of a bench that was killed included."""
    return sum(record.cpu_seconds for record in read_records(run).values())


def _together(answered: Sequence[Answered]) -> list[Line]:
    """Return means over the events of all days that two models both answered, and their paired difference."""
    lines = []
    for model, other in (("updated", "frozen"), ("retrained", "frozen"), ("retrained", "updated")):
        days = [one for one in answered if model in one.ndcg]
        ndcg_QF = np.concatenate([np.stack([one.ndcg[model], one.ndcg[other]], axis=1) for one in days])
        users_Q = np.concatenate([one.users_Q for one in days])
        gain_Q1 = ndcg_QF[:, :1] - ndcg_QF[:, 1:]
        low, high = (float(end[0]) for end in bootstrap_intervals(gain_Q1, users_Q, rng_for(0, "bench days")))
        ours, peer = ndcg_QF.mean(axis=0).tolist()
        what = f"{len(days)} days ({len(users_Q):,} events), {model}; less {other}, 95 %: {low:+.4f} to {high:+.4f}"
        lines.append(Line(what=what, ours=ours, peer=peer, peer_name=other, unit=UNIT))
    return lines


def _train(days: Days, folder: Path, recipe: Recipe, *, until: int) -> Path:
    """Train in full on all days before one; returns the run."""
    data = days.write(folder / "data", since=None, until=until)
    train(data, folder / "run", sized_for(data, recipe, quick=False), use_ray=False)
    return folder / "run"
