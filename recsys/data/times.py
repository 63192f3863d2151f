"""Reading times: the unit is recognised by magnitude and form, reported, and one for a whole column.

Axes: E event.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.core.arrays import BoolArray, IntArray
from recsys.core.errors import CallError, DataError
from recsys.data.calendar_text import DATE_FORMS, Dates, digits_as_dates, written_dates
from recsys.data.numbers import Numbers, read_numbers

UNITS: Final = {
    "s": "seconds since 1970",
    "ms": "milliseconds since 1970",
    "us": "microseconds since 1970",
    "ns": "nanoseconds since 1970",
    "days": "days since 1970",
    "excel": "spreadsheet days since 1900",
    "yyyymmdd": "dates written YYYYMMDD",
    "iso": "dates written YYYY-MM-DD, maybe with a time of day; UTC where no zone is given",
    "dmy": "dates written DD.MM.YYYY, day first, maybe with a time of day; UTC where no zone is given",
    "mdy": "dates written MM/DD/YYYY, month first, maybe with a time of day; UTC where no zone is given",
}
"""The forms of time, as ``--time-unit`` names them."""

NOT_A_TIME: Final = "timestamp not a time"
FUTURE: Final = "timestamp in the future"
TOO_EARLY: Final = "timestamp before 1973 in a log of today"
NEGATIVE: Final = "timestamp before 1970"

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_BILLION, _DAY = 10**9, 86_400
_EXCEL_1970 = 25_569
_CALENDAR = 10**8
"""Seconds from here on (March 1973) are taken for a date, smaller ones for a count from any start."""
_UNIX_SECONDS = 10**11  # numbers from here on are milliseconds
_EXCEL_RANGE = (_EXCEL_1970, 73_050)  # 1970 to 1999-12-31 + 100 years


@dataclass(frozen=True, kw_only=True)
class Times:
    """A column of times as unix seconds and the nanoseconds beyond.

    Shape:
        seconds_E: (events,) int64; 0 where not ``valid_E``.
        nanoseconds_E: (events,) int64, from 0 to 999,999,999.
        valid_E: (events,) bool, True where a time could be read and is possible.
        masks: (events,) bool for each cause that happened; an event has one cause at most.
    """

    seconds_E: IntArray
    nanoseconds_E: IntArray
    valid_E: BoolArray
    masks: Mapping[str, BoolArray]
    notes: tuple[str, ...] = ()

    @property
    def faults(self) -> dict[str, int]:
        """How many values are no time, by cause."""
        return {cause: int(mask_E.sum()) for cause, mask_E in self.masks.items()}


@dataclass(frozen=True, kw_only=True)
class _Read:
    """Times before they are looked at for outliers; ``unit`` is a key of :data:`UNITS`."""

    seconds_E: IntArray
    nanoseconds_E: IntArray
    valid_E: BoolArray
    unit: str
    example: pa.ChunkedArray
    form: str = ""
    """What the values are where no key of :data:`UNITS` is it."""


def read_times(column: pa.ChunkedArray, where: str, *, unit: str | None = None, now: float | None = None) -> Times:
    """Return a column's times; the unit is recognised unless it is given.

    Times that cannot be (in the future; of 1970 in a log of today) are invalid and counted. With a unit given they
    stay and are noted, because the caller has given the unit.

    Args:
        column: numbers, text, dates or timestamps.
        where: what to call the column in messages.
        unit: a key of :data:`UNITS`, or None to recognise it.
        now: the unix time of reading; the clock's where it is None.

    Raises:
        DataError: the column's type holds no times, units are mixed, or most times cannot be.
    """
    if unit is not None and unit not in UNITS:
        raise CallError(f"--time-unit must be one of {', '.join(UNITS)}, got {unit!r}; choose one of these")
    kind = column.type
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        read = _from_arrow(column)
    elif pa.types.is_string(kind) or pa.types.is_null(kind):
        read = _from_text(column.cast(pa.string()), where, unit)
    elif unit in DATE_FORMS:
        raise DataError(f"{where} must hold text to be read as {unit}, got {kind}; choose another --time-unit")
    else:
        read = _from_numbers(read_numbers(column, where), where, unit)
    masks = {NOT_A_TIME: ~read.valid_E} if not read.valid_E.all() else {}
    outliers = _outliers(read, time.time() if now is None else now)
    if unit is not None:
        notes = tuple(f"{int(out_E.sum()):,} times kept: {cause}" for cause, out_E in outliers.items())
        return _times(read, read.valid_E, masks, (*_said(read, read.valid_E, where), *notes))
    valid_E = read.valid_E
    for cause, out_E in outliers.items():
        count = int(out_E.sum())
        if 2 * count > read.valid_E.sum():
            raise DataError(
                f"{where} must hold times that can be, got {count:,} of {int(read.valid_E.sum()):,}: {cause} "
                f"({_example(read, int(np.flatnonzero(out_E)[0]))}); mend the clock, or keep them by --time-unit "
                f"{read.unit}"
            )
        masks[cause] = out_E & valid_E
        valid_E = valid_E & ~out_E
    return _times(read, valid_E, masks, _said(read, valid_E, where))


def _said(read: _Read, valid_E: BoolArray, where: str) -> tuple[str, ...]:
    """Say what a column is read as, with the first time that stays."""
    if not valid_E.any():
        return ()
    return (f"{where} is read as {read.form or UNITS[read.unit]}: {_example(read, int(np.flatnonzero(valid_E)[0]))}",)


def _times(read: _Read, valid_E: BoolArray, masks: Mapping[str, BoolArray], notes: tuple[str, ...]) -> Times:
    seconds_E, nanoseconds_E = read.seconds_E, read.nanoseconds_E
    if not valid_E.all():
        seconds_E, nanoseconds_E = np.where(valid_E, seconds_E, 0), np.where(valid_E, nanoseconds_E, 0)
    return Times(seconds_E=seconds_E, nanoseconds_E=nanoseconds_E, valid_E=valid_E, masks=masks, notes=notes)


def _outliers(read: _Read, now: float) -> dict[str, BoolArray]:
    """Return which valid times cannot be, by cause; causes that never happen are left out."""
    seconds_E, valid_E = read.seconds_E, read.valid_E
    if not valid_E.any():
        return {}
    found = {FUTURE: valid_E & (seconds_E > now + _DAY), NEGATIVE: valid_E & (seconds_E < 0)}
    early_E = valid_E & (seconds_E >= 0) & (seconds_E < _CALENDAR)
    if early_E.any() and np.median(seconds_E[valid_E]) >= _CALENDAR:
        found[TOO_EARLY] = early_E
    return {cause: out_E for cause, out_E in found.items() if out_E.any()}


def _example(read: _Read, row: int) -> str:
    seconds = int(read.seconds_E[row])
    try:
        written = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        written = f"{seconds} s after 1970"
    return f"{read.example[row].as_py()} is {written}"


def _from_arrow(column: pa.ChunkedArray) -> _Read:
    """Read dates and timestamps, whose unit is known; without a zone they are UTC."""
    kind = column.type
    unit = kind.unit if pa.types.is_timestamp(kind) else "s"
    numbers = column.cast(pa.timestamp(unit, kind.tz if pa.types.is_timestamp(kind) else None)).cast(pa.int64())
    valid_E = np.asarray(pc.is_valid(numbers).to_numpy(), dtype=np.bool_)
    whole_E = np.asarray(pc.fill_null(numbers, 0).to_numpy(), dtype=np.int64)
    seconds_E, rest_E = np.divmod(whole_E, _PER_SECOND[unit])
    nanoseconds_E = rest_E * (_BILLION // _PER_SECOND[unit])
    form = f"the file's own {kind}{'' if pa.types.is_timestamp(kind) and kind.tz else ', in UTC'}"
    return _Read(
        seconds_E=seconds_E, nanoseconds_E=nanoseconds_E, valid_E=valid_E, unit="iso", example=numbers, form=form
    )


def _from_text(column: pa.ChunkedArray, where: str, unit: str | None) -> _Read:
    column = pc.utf8_trim_whitespace(column)
    numbers = read_numbers(column, where)
    form, dates = unit, None
    if unit in DATE_FORMS:
        dates = written_dates(column, unit)
    elif unit is None and numbers.valid_E.sum() < len(column) - column.null_count:
        form, dates = _recognised_dates(column, where)
    if dates is None or form is None:
        if not numbers.valid_E.any() and len(column) > column.null_count:
            raise DataError(
                f"{where} must hold times, got {column.drop_null()[0].as_py()[:40]!r} and no value that is one; write "
                "unix seconds, YYYY-MM-DD hh:mm:ss, or DD.MM.YYYY hh:mm:ss"
            )
        return _from_numbers(numbers, where, unit)
    other_E = numbers.valid_E & (numbers.whole_E != 0) & ~dates.valid_E
    if unit is None and other_E.any():
        _refuse_mixed(where, [("dates written out", dates.valid_E), ("numbers", other_E)], column, form)
    return _Read(
        seconds_E=dates.seconds_E, nanoseconds_E=dates.nanoseconds_E, valid_E=dates.valid_E, unit=form, example=column
    )


def _recognised_dates(column: pa.ChunkedArray, where: str) -> tuple[str, Dates] | tuple[None, None]:
    """Return the one form in which dates are written out, and the dates; None where nothing is such a date.

    Day or month first is decided by dots, and by numbers above 12, which are no month.

    Raises:
        DataError: two forms are mixed, or every date could be day first as well as month first.
    """
    found = {"iso": written_dates(column, "iso")}
    if found["iso"].valid_E.sum() < len(column) - column.null_count:
        found |= {form: written_dates(column, form) for form in DATE_FORMS if form != "iso"}
    if not any(dates.valid_E.any() for dates in found.values()):
        return None, None
    only = {
        form: dates.valid_E & ~_any([(other, one.valid_E) for other, one in found.items() if other != form])
        for form, dates in found.items()
    }
    found_forms = [(UNITS[form].partition(",")[0], only_E) for form, only_E in only.items() if only_E.any()]
    forms = [form for form, only_E in only.items() if only_E.any()]
    if len(forms) > 1:
        _refuse_mixed(where, found_forms, column, max(forms, key=lambda form: int(found[form].valid_E.sum())))
    if not forms:
        example = column[int(np.flatnonzero(found["dmy"].valid_E)[0])].as_py()
        raise DataError(
            f"{where} must say whether day or month comes first, got {example!r} and no number above 12 there; add "
            "--time-unit dmy or --time-unit mdy"
        )
    return forms[0], found[forms[0]]


def _from_numbers(numbers: Numbers, where: str, unit: str | None) -> _Read:
    plain = unit in (None, "s") and numbers.within(_CALENDAR, _UNIX_SECONDS)
    unit = "s" if plain else unit or _recognised(numbers, where)
    whole_E, fraction_E, valid_E = numbers.whole_E, numbers.fraction_E, numbers.valid_E
    nanoseconds_E = np.zeros(len(whole_E), dtype=np.int64)
    if plain:
        seconds_E = whole_E  # as they are, without a copy
    elif unit in _PER_SECOND:
        seconds_E, rest_E = np.divmod(whole_E, _PER_SECOND[unit])
        scale = _BILLION // _PER_SECOND[unit]
        nanoseconds_E = np.minimum(rest_E * scale + (fraction_E * scale).astype(np.int64), _BILLION - 1)
    elif unit == "yyyymmdd":
        seconds_E, dated_E = digits_as_dates(whole_E)
        valid_E = valid_E & dated_E & (fraction_E == 0)
    else:
        start = _EXCEL_1970 if unit == "excel" else 0
        days_E = np.clip(whole_E, -(10**12), 10**12) - start
        valid_E = valid_E & (np.abs(days_E) < 10**8)
        seconds_E = days_E * _DAY + np.rint(fraction_E * _DAY).astype(np.int64)
    return _Read(
        seconds_E=seconds_E, nanoseconds_E=nanoseconds_E, valid_E=valid_E, unit=unit, example=numbers.as_written_E
    )


def _recognised(numbers: Numbers, where: str) -> str:
    """Return the one unit in which all values but 0 are plausible dates, judged by their magnitude."""
    speaks_E = numbers.valid_E & (numbers.whole_E != 0)
    size_E = np.abs(numbers.whole_E)
    _, dated_E = digits_as_dates(numbers.whole_E)
    dated_E = dated_E & (numbers.fraction_E == 0)
    bounds = [
        ("s", _CALENDAR, _UNIX_SECONDS),
        ("ms", _UNIX_SECONDS, 10**14),
        ("us", 10**14, 10**17),
        ("ns", 10**17, 2**63 - 1),
    ]
    classes = {name: speaks_E & ~dated_E & (size_E >= low) & (size_E < high) for name, low, high in bounds}
    classes["yyyymmdd"] = speaks_E & dated_E
    classes["small"] = speaks_E & ~dated_E & (size_E < _CALENDAR)
    counts = {name: int(class_E.sum()) for name, class_E in classes.items()}
    main = max(counts, key=lambda name: counts[name])
    if main == "small":
        days_E = classes["small"] & (numbers.whole_E >= _EXCEL_RANGE[0]) & (numbers.whole_E <= _EXCEL_RANGE[1])
        if days_E.sum() == speaks_E.sum() and counts["small"]:
            return "excel"
        alike = {"small", "s", "yyyymmdd"}
        main = "s"
    else:
        alike = {main, "small"}
    others = [(UNITS[name], classes[name]) for name in counts if name not in alike and counts[name]]
    if others:
        _refuse_mixed(where, [(UNITS[main], speaks_E & ~_any(others)), *others], numbers.as_written_E, main)
    return main


def _any(classes: list[tuple[str, BoolArray]]) -> BoolArray:
    return np.asarray(np.logical_or.reduce([class_E for _, class_E in classes]), dtype=np.bool_)


def _refuse_mixed(where: str, parts: list[tuple[str, BoolArray]], column: pa.ChunkedArray, unit: str) -> None:
    found_forms = " and ".join(
        f"{int(class_E.sum()):,} as {name} (e.g. {column[int(np.flatnonzero(class_E)[0])].as_py()})"
        for name, class_E in parts
        if class_E.any()
    )
    raise DataError(
        f"{where} must be written in one way, got {found_forms}; convert them, or read all alike by --time-unit {unit}"
    )
