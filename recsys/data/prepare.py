"""Turning a dataset into a run's event log: filters, catalogue indices, and their files."""

import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from recsys.core.arrays import BoolArray, IntArray
from recsys.core.artifacts import write_json
from recsys.core.config import Config
from recsys.core.errors import ArtifactError, ConfigError, DataError
from recsys.core.seeds import rng_for
from recsys.data import schema
from recsys.data.columns import codes_of
from recsys.data.events import EventLog, TimeCuts, build_log, log_in_order
from recsys.data.mapped import map_events, write_events
from recsys.data.preferences import counts_by_type, event_weights
from recsys.data.splits import SplitKind, time_cuts
from recsys.data.table import Dataset, read_parquet, write_parquet
from recsys.data.vocabulary import Vocabulary

EVENTS = "events.parquet"
MAPPED = "events.arrow"
"""The same events, for :func:`load_prepared` to map into memory."""
ITEMS = "items.parquet"
USERS = "users.parquet"
REPORT = "report.json"

Report: TypeAlias = dict[str, int | dict[str, int] | list[str]]


class PrepareConfig(Config):
    """Which events of a dataset a run uses."""

    k_core: int = Field(default=0, ge=0)
    """Keep only users and items with at least this many events, repeatedly; 0 keeps everything. With
    ``split = "time"`` training events alone count, and later events are kept where their item is."""

    min_rating: float | None = None
    """Keep only events rated at least this; None keeps everything."""

    event_weights: dict[str, float] = Field(default_factory=dict)
    """What an event of each type counts, e.g. ``purchase = 1.0, view = 0.3, dislike = -1.0``; types not named are left
    out. Empty: every type counts 1, except those that say no or nothing (``recsys.data.preferences.NO_LIKES``)."""

    min_weight: float = Field(default=0.0, ge=0)
    """Keep only events that count more than this, their type's weight times their own: the others are no likes."""

    split: SplitKind = "leave-one-out"
    """What is held out: each user's last two events, or (``time``) everything after one moment, for all users alike."""

    test_share: float = Field(default=0.1, gt=0, lt=1)
    """With ``split = "time"``: the newest share of all events, which is the test."""

    validation_share: float = Field(default=0.1, gt=0, lt=1)
    """With ``split = "time"``: the share of all events just before the test, which is validation."""

    max_events: int = Field(default=0, ge=0)
    """Keep only so many events, of whole users drawn at random, to try a large log quickly; 0 keeps everything."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """An event log, the external ids behind its indices, and the count of what was left out.

    ``user_ids[u]`` is the id of user ``u``; row ``i`` of ``items`` is catalogue index ``i``.
    """

    log: EventLog
    user_ids: list[int | str]
    items: pa.Table
    report: Report

    @cached_property
    def users(self) -> Vocabulary:
        """The vocabulary of users."""
        return Vocabulary(self.user_ids)


def prepare(dataset: Dataset, config: PrepareConfig) -> Prepared:
    """Filter events and number users (by first appearance) and items (by the items' order)."""
    rows = dataset.interactions
    rated_E = _rated_enough(rows, config.min_rating)
    liked_E = event_weights(rows, config.event_weights) > config.min_weight
    user_E = codes_of(rows[schema.USER])
    drawn_E = _drawn(user_E, rated_E & liked_E, config.max_events)
    start_E = rated_E & liked_E & drawn_E
    item_E = Vocabulary(dataset.items[schema.ITEM]).rows_of(rows[schema.ITEM], "item_id")
    time_E = _numbers(rows, schema.TIMESTAMP)
    cuts = _cuts(time_E[start_E], config)
    core_E = _core_before(cuts, time_E, user_E, item_E, start_E=start_E, k=config.k_core)
    if not core_E.any():
        raise ConfigError(_nothing_left(rows, config, rated_E, liked_E))
    kept_items = np.unique(item_E[core_E]) if config.k_core > 0 else np.arange(dataset.items.num_rows)
    user_E, item_E, time_E = (_selected(values_E, core_E) for values_E in (user_E, item_E, time_E))
    kept_users = _by_first_appearance(user_E)
    user_E, item_E = _renumber(user_E, kept_users), _renumber(item_E, kept_items)
    position_E = _selected(_numbers(rows, schema.POSITION), core_E)
    user_ids = rows[schema.USER].unique().take(pa.array(kept_users)).to_pylist()
    items = dataset.items.take(pa.array(kept_items))
    report: Report = {
        "bad_rows": dict(dataset.bad_rows.counts),
        "rows_read": rows.num_rows,
        "rows_below_min_rating": int((~rated_E).sum()),
        "rows_no_likes": counts_by_type(rows, rated_E & ~liked_E),
        "rows_not_drawn": int((rated_E & liked_E & ~drawn_E).sum()),
        "rows_outside_core": int((start_E & ~core_E).sum()),
        "items_outside_core": dataset.items.num_rows - len(kept_items),
        "notes": list(dataset.notes),
    }
    del rows, dataset  # a caller who does not hold the table either has its memory for the sort
    log = build_log(user_E, item_E, time_E, position_E, num_users=len(user_ids), num_items=items.num_rows)
    log = log if cuts is None else replace(log, cuts=cuts)
    return Prepared(log=log, user_ids=user_ids, items=items, report=report | _size(log))


def _size(log: EventLog) -> Report:
    """Return the figures of a log itself for a report."""
    size: Report = {
        "items_without_events": int((log.counts_N == 0).sum()),
        "users": log.num_users,
        "items": log.num_items,
        "events": len(log.items_E),
    }
    return size if log.cuts is None else size | {"cuts": asdict(log.cuts)}


def _cuts(time_E: IntArray, config: PrepareConfig) -> TimeCuts | None:
    """Return the global cuts of the wanted events; None where each user's last ones are held out, or none is wanted."""
    if config.split != "time" or not len(time_E):
        return None
    return time_cuts(time_E, test_share=config.test_share, validation_share=config.validation_share)


def _core_before(
    cuts: TimeCuts | None, time_E: IntArray, user_E: IntArray, item_E: IntArray, *, start_E: BoolArray, k: int
) -> BoolArray:
    """Return which events are kept: the k-core, with a global cut that of the training events alone.

    Later events do not count for the core: those of its items are kept, of any user, and those of other items are left
    out, because the catalogue lacks them.
    """
    if cuts is None or not k:
        return core(user_E, item_E, start_E, k=k)
    before_E = time_E < cuts.validation
    core_E = core(user_E, item_E, start_E & before_E, k=k)
    return core_E | (start_E & ~before_E & np.isin(item_E, item_E[core_E]))


def core(user_E: IntArray, item_E: IntArray, start_E: BoolArray, *, k: int) -> BoolArray:
    """Return which events are in the k-core: every user and item left has at least ``k`` events left.

    Shape:
        user_E: (events,) user numbers.
        item_E: (events,) item numbers.
        start_E: (events,) bool, the events to start from.
        returns: (events,) bool.
    """
    kept_E = start_E.copy()
    while k > 1 and kept_E.any():
        per_user = np.bincount(user_E[kept_E], minlength=user_E.max() + 1)
        per_item = np.bincount(item_E[kept_E], minlength=item_E.max() + 1)
        next_E = kept_E & (per_user[user_E] >= k) & (per_item[item_E] >= k)
        if (next_E == kept_E).all():
            break
        kept_E = next_E
    return kept_E


def save_prepared(prepared: Prepared, folder: Path) -> None:
    """Write the log, items, users and report; each file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    log = prepared.log
    user_E = np.repeat(np.arange(log.num_users, dtype=np.int64), log.lengths_U)
    write_parquet(prepared.items, folder / ITEMS)
    write_parquet(pa.table({schema.USER: pa.array(prepared.user_ids)}), folder / USERS)
    write_parquet(pa.table({"user": user_E, "item": log.items_E, schema.TIMESTAMP: log.timestamps_E}), folder / EVENTS)
    columns = {"offsets_U1": log.offsets_U1, "items_E": log.items_E, "timestamps_E": log.timestamps_E}
    write_events(folder / MAPPED, **columns)
    write_json(folder / REPORT, prepared.report)


def load_prepared(folder: Path) -> Prepared:
    """Read what :func:`save_prepared` wrote."""
    try:
        items, users = (read_parquet(folder / name) for name in (ITEMS, USERS))
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        user_ids = users[schema.USER].to_pylist()
        log = _load_log(folder, num_users=len(user_ids), num_items=items.num_rows)
    except (DataError, OSError, KeyError, ValueError) as error:
        raise ArtifactError(f"{folder} must hold a prepared log, got: {error}; prepare the data again") from error
    if cuts := report.get("cuts"):
        log = replace(log, cuts=TimeCuts(**cuts))
    return Prepared(log=log, user_ids=user_ids, items=items, report=report)


def _load_log(folder: Path, *, num_users: int, num_items: int) -> EventLog:
    """Map the log of a run into memory; that of a run from before there was such a file is read."""
    if (folder / MAPPED).exists():
        offsets_U1, items_E, timestamps_E = map_events(folder / MAPPED)
        if len(offsets_U1) != num_users + 1:
            raise ArtifactError(
                f"{folder / MAPPED} must have {num_users} users, got {len(offsets_U1) - 1}; prepare the data again"
            )
        _check_indices(items_E, num_items, f"{folder / MAPPED}: column 'item'")
        return EventLog(offsets_U1=offsets_U1, items_E=items_E, timestamps_E=timestamps_E, num_items=num_items)
    events = read_parquet(folder / EVENTS)
    user_E, item_E, time_E = (_numbers(events, name) for name in ("user", "item", schema.TIMESTAMP))
    _check_indices(user_E, num_users, f"{folder / EVENTS}: column 'user'")
    _check_indices(item_E, num_items, f"{folder / EVENTS}: column 'item'")
    return log_in_order(user_E, item_E, time_E, num_users=num_users, num_items=num_items)


def _check_indices(index_E: IntArray, count: int, where: str) -> None:
    if len(index_E) and not (index_E.min() >= 0 and index_E.max() < count):
        raise ArtifactError(
            f"{where} must lie in 0..{count - 1}, got {index_E.min()}..{index_E.max()}; prepare the data again"
        )


def wanted_events(rows: pa.Table, config: PrepareConfig) -> BoolArray:
    """Return which interactions the rating and weight filters keep, shape (rows,)."""
    liked_E = event_weights(rows, config.event_weights) > config.min_weight
    return _rated_enough(rows, config.min_rating) & liked_E


def _rated_enough(rows: pa.Table, least: float | None) -> BoolArray:
    if least is None:
        return np.ones(rows.num_rows, dtype=np.bool_)
    if schema.RATING not in rows.column_names:
        raise ConfigError(f"min_rating must be unset for a log without a 'rating' column, got {least}; remove it")
    rated: BoolArray = pc.fill_null(pc.greater_equal(rows[schema.RATING], least), False).to_numpy()
    return rated


def _drawn(user_E: IntArray, start_E: BoolArray, most: int) -> BoolArray:
    """Return which events are of users that are drawn, so many that their events reach ``most``; 0 draws all."""
    if not most or start_E.sum() <= most:
        return np.ones(len(user_E), dtype=np.bool_)
    counts_U = np.bincount(user_E[start_E], minlength=int(user_E.max(initial=0)) + 1)
    order_U = rng_for(0, "users of a smaller log").permutation(len(counts_U))
    reached_U = np.cumsum(counts_U[order_U]) - counts_U[order_U] < most
    drawn_U = np.zeros(len(counts_U), dtype=np.bool_)
    drawn_U[order_U[reached_U]] = True
    return drawn_U[user_E]


def _nothing_left(rows: pa.Table, config: PrepareConfig, rated_E: BoolArray, liked_E: BoolArray) -> str:
    return (
        f"data.k_core, data.min_rating and data.min_weight must leave at least one event, got none left of "
        f"{rows.num_rows:,}: {int((~rated_E).sum()):,} are below min_rating={config.min_rating}, "
        f"{int((rated_E & ~liked_E).sum()):,} of the rest count no more than min_weight={config.min_weight}, and what "
        f"is left has no core of k_core={config.k_core}; lower them, or name event types in data.event_weights"
    )


def _numbers(table: pa.Table, name: str) -> IntArray:
    return np.asarray(table[name].to_numpy(), dtype=np.int64)


def _selected(values_E: IntArray, kept_E: BoolArray) -> IntArray:
    """Return the values that are kept, without a copy where all are."""
    return values_E if kept_E.all() else values_E[kept_E]


def _by_first_appearance(code_E: IntArray) -> IntArray:
    """Return the different codes in the order in which they come."""
    first = np.full(int(code_E.max()) + 1, len(code_E))
    np.minimum.at(first, code_E, np.arange(len(code_E)))
    codes = np.flatnonzero(first < len(code_E))
    return np.asarray(codes[np.argsort(first[codes])], dtype=np.int64)


def _renumber(code_E: IntArray, kept: IntArray) -> IntArray:
    if (kept == np.arange(len(kept))).all():
        return code_E
    number = np.full(int(kept.max()) + 1, -1, dtype=np.int64)
    number[kept] = np.arange(len(kept))
    return number[code_E]
