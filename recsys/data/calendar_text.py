"""Dates written in digits: text in any order of year, month and day, and YYYYMMDD numbers, to unix seconds.

Axes: E event.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.core.arrays import BoolArray, IntArray

_CLOCK = (
    r"(?:(?:T|,? +)(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})"
    r"(?:[.,](?P<fraction>[0-9]{1,9})[0-9]*)?)?(?: ?(?P<half>[AaPp][Mm]))?"
    r" ?(?:Z|z|UTC|GMT|(?P<zone>[+-][0-9]{2}(?::?[0-9]{2})?))?)?$"
)
_YEAR, _MONTH, _DAY_OF_MONTH = r"(?P<year>[0-9]{4})", r"(?P<month>[0-9]{1,2})", r"(?P<day>[0-9]{1,2})"
_FORMS = {
    "iso": f"^{_YEAR}[-/]{_MONTH}[-/]{_DAY_OF_MONTH}{_CLOCK}",
    "dmy": f"^{_DAY_OF_MONTH}[-/.]{_MONTH}[-/.]{_YEAR}{_CLOCK}",
    "mdy": f"^{_MONTH}[-/]{_DAY_OF_MONTH}[-/]{_YEAR}{_CLOCK}",
}
DATE_FORMS = tuple(_FORMS)
"""The orders of year, month and day in dates that are written out; dates with dots are never month first."""
_PARTS = ("year", "month", "day", "hour", "minute", "second")
_MONTH_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_DAY = 86_400


@dataclass(frozen=True, kw_only=True)
class Dates:
    """Dates as unix seconds and nanoseconds beyond; both 0 where not ``valid_E``; all of shape (events,)."""

    seconds_E: IntArray
    nanoseconds_E: IntArray
    valid_E: BoolArray


def written_dates(column: pa.ChunkedArray, form: str) -> Dates:
    """Read dates with a time of day or without, in one of :data:`DATE_FORMS`; UTC without a zone.

    ``2023-11-14``, ``2023/11/14 10:13 PM`` and ``2023-11-14T22:13:20.5+01:00`` are ``iso``, ``14.11.2023 22:13`` and
    ``14/11/2023`` are ``dmy``, ``11/14/2023`` is ``mdy``. Anything else, and days that never were, are invalid.
    """
    found = pc.extract_regex(column, _FORMS[form])
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks()
    matched_E = np.asarray(pc.is_valid(found).to_numpy(zero_copy_only=False), dtype=np.bool_)
    part = {name: _digits(found, name) for name in _PARTS}
    days_E, valid_E = days_of(part["year"], part["month"], part["day"])
    hour_E, possible_E = _hours_of(part["hour"], pc.utf8_lower(pc.struct_field(found, "half")))
    valid_E &= matched_E & possible_E & (part["minute"] < 60) & (part["second"] <= 60)
    zone = pc.struct_field(found, "zone")
    zone_E = _digits_of(pc.utf8_slice_codeunits(zone, 1, 3)) * 3600
    zone_E += _digits_of(pc.utf8_slice_codeunits(pc.utf8_rtrim(zone, ":"), -2, None)) * 60 * (_lengths(zone) > 3)
    zone_E *= np.where(_is(pc.starts_with(zone, "-")), -1, 1)
    seconds_E = days_E * _DAY + hour_E * 3600 + part["minute"] * 60 + part["second"] - zone_E
    fraction = pc.utf8_rpad(pc.struct_field(found, "fraction"), 9, "0")
    nanoseconds_E = np.where(valid_E, _digits_of(fraction), 0)
    return Dates(seconds_E=np.where(valid_E, seconds_E, 0), nanoseconds_E=nanoseconds_E, valid_E=valid_E)


def _hours_of(hour_E: IntArray, half: pa.Array) -> tuple[IntArray, BoolArray]:
    """Return hours from 0 to 23, and whether there is such an hour: 12 am is 0, 12 pm is 12, 13 pm is none."""
    am_E, pm_E = _is(pc.equal(half, "am")), _is(pc.equal(half, "pm"))
    possible_E = np.where(am_E | pm_E, (hour_E >= 1) & (hour_E <= 12), hour_E < 24)
    return np.where(am_E | pm_E, hour_E % 12 + 12 * pm_E, hour_E), possible_E


def _is(flags: pa.Array) -> BoolArray:
    """Return flags as an array, null as False."""
    return np.asarray(pc.fill_null(flags, False).to_numpy(zero_copy_only=False), dtype=np.bool_)


def digits_as_dates(whole_E: IntArray) -> tuple[IntArray, BoolArray]:
    """Return numbers like 20231114 or 20231114221320 as unix seconds, and which ones are such dates.

    Shape:
        whole_E: (events,) int64.
        returns: (events,) int64 and (events,) bool; years 1900 to 2100 only.
    """
    long_E = whole_E >= 10**13
    date_E = np.where(long_E, whole_E // 10**6, whole_E)
    clock_E = np.where(long_E, whole_E % 10**6, 0)
    hour_E, minute_E, second_E = clock_E // 10**4, clock_E // 100 % 100, clock_E % 100
    days_E, valid_E = days_of(date_E // 10**4, date_E // 100 % 100, date_E % 100)
    valid_E &= (date_E >= 19_000_101) & (date_E <= 21_001_231) & (hour_E < 24) & (minute_E < 60) & (second_E < 60)
    seconds_E = days_E * _DAY + hour_E * 3600 + minute_E * 60 + second_E
    return np.where(valid_E, seconds_E, 0), valid_E


def days_of(year_E: IntArray, month_E: IntArray, day_E: IntArray) -> tuple[IntArray, BoolArray]:
    """Return the days from 1970 to a date, and whether there is such a day; shapes (events,).

    >>> days_of(np.array([1970]), np.array([2]), np.array([1]))
    (array([31]), array([ True]))
    """
    leap_E = (year_E % 4 == 0) & ((year_E % 100 != 0) | (year_E % 400 == 0))
    valid_E = (year_E >= 1) & (year_E <= 9999) & (month_E >= 1) & (month_E <= 12) & (day_E >= 1)
    month_E = np.where(valid_E, month_E, 1)
    valid_E &= day_E <= _MONTH_DAYS[month_E] + (leap_E & (month_E == 2))
    months_E = np.where(valid_E, (year_E - 1970) * 12 + month_E - 1, 0)
    firsts_E = months_E.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    return np.where(valid_E, firsts_E + day_E - 1, 0), np.asarray(valid_E, dtype=np.bool_)


def _digits(found: pa.StructArray, name: str) -> IntArray:
    return _digits_of(pc.struct_field(found, name))


def _digits_of(texts: pa.Array) -> IntArray:
    """Return digits as int64, 0 where there are none."""
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    return np.asarray(pc.fill_null(texts.cast(pa.int64()), 0).to_numpy(zero_copy_only=False), dtype=np.int64)


def _lengths(texts: pa.Array) -> IntArray:
    return np.asarray(pc.fill_null(pc.utf8_length(texts), 0).to_numpy(zero_copy_only=False), dtype=np.int64)
