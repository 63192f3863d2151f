"""Times: every form is recognised, mixed forms are refused, what cannot be is counted."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.core.errors import CallError, DataError
from recsys.data.calendar_text import days_of
from recsys.data.times import Times, read_times

_NOW = 1_800_000_000.0
_T = 1_700_000_000  # 2023-11-14 22:13:20 UTC
_SECONDS = st.lists(st.integers(10**8, int(_NOW)), min_size=1, max_size=20)


def _read(values: list, kind: pa.DataType | None = None, **more: object) -> Times:
    return read_times(pa.chunked_array([pa.array(values, kind)]), "timestamp", now=_NOW, **more)  # type: ignore[arg-type]


def _utc(seconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


_FORMS: dict[str, Callable[[int], object]] = {
    "seconds": lambda t: t,
    "milliseconds": lambda t: t * 1000,
    "microseconds": lambda t: t * 10**6,
    "nanoseconds": lambda t: t * 10**9,
    "float seconds": lambda t: float(t),
    "text": lambda t: str(t),
    "text of milliseconds": lambda t: f" {t * 1000}.0 ",
    "ISO": lambda t: _utc(t).strftime("%Y-%m-%d %H:%M:%S"),
    "ISO with Z": lambda t: _utc(t).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
    "ISO with a zone": lambda t: _utc(t).astimezone(timezone(timedelta(hours=-5, minutes=-30))).isoformat(),
    "ISO with slashes": lambda t: _utc(t).strftime("%Y/%m/%d %H:%M:%S"),
    "ISO with half days": lambda t: _utc(t).strftime("%Y-%m-%d %I:%M:%S %p"),
    "day first with dots": lambda t: _utc(t).strftime("%d.%m.%Y %H:%M:%S"),
    "day first with dots and a comma": lambda t: _utc(t).strftime("%d.%m.%Y, %H:%M:%S"),
    "YYYYMMDDhhmmss": lambda t: int(_utc(t).strftime("%Y%m%d%H%M%S")),
    "spreadsheet days": lambda t: t / 86_400 + 25_569,
}


@settings(max_examples=25, deadline=None)
@given(_SECONDS)
@pytest.mark.parametrize("form", sorted(_FORMS))
def test_read_times_when_any_form_then_is_the_same_seconds(form: str, seconds: list[int]) -> None:
    times = _read([_FORMS[form](second) for second in seconds])
    assert times.seconds_E.tolist() == seconds
    assert times.valid_E.all()
    assert not times.faults


@pytest.mark.parametrize(
    ("kind", "scale"), [(pa.timestamp("s"), 1), (pa.timestamp("ms"), 1000), (pa.timestamp("ns", "Asia/Tokyo"), 10**9)]
)
def test_read_times_when_arrow_timestamps_then_their_unit_counts(kind: pa.DataType, scale: int) -> None:
    column = pa.chunked_array([pa.array([_T * scale, None], pa.int64()).cast(kind)])
    times = read_times(column, "timestamp", now=_NOW)
    assert (times.seconds_E.tolist(), times.valid_E.tolist()) == ([_T, 0], [True, False])
    assert times.faults == {"timestamp not a time": 1}


def test_read_times_when_dates_then_midnight() -> None:
    # 2023-11-14 is day 19675: 19675 * 86400 = 1699920000
    for values, kind in (([20231114], pa.int64()), (["2023-11-14"], pa.string()), ([19675], pa.date32())):
        assert _read(values, kind).seconds_E.tolist() == [1_699_920_000]


def test_read_times_when_fractions_then_nanoseconds_are_kept() -> None:
    times = _read([_T + 0.25, _T + 0.75])
    assert (times.seconds_E.tolist(), times.nanoseconds_E.tolist()) == ([_T, _T], [250_000_000, 750_000_000])
    assert _read([_T * 1000 + 7]).nanoseconds_E.tolist() == [7_000_000]
    assert _read(["2023-11-14 22:13:20.5"]).nanoseconds_E.tolist() == [500_000_000]
    assert _read([(_T * 10**9) + 3], pa.int64()).nanoseconds_E.tolist() == [3]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([_T, _T * 1000, _T + 5], r"2 as seconds since 1970 .*1 as milliseconds since 1970 \(e.g. 1700000000000\)"),
        ([_T, _T, 20231114], "1 as dates written YYYYMMDD"),
        (["2023-11-14", "1700000000", "2023-11-15"], r"2 as dates written out .* 1 as numbers \(e.g. 1700000000\)"),
        ([5, 6, _T * 1000], "2 as seconds since 1970"),
        (["2023-11-14", "2023-11-15", "14.11.2023"], r"2 as dates written YYYY-MM-DD .* 1 as dates written DD.MM.YYYY"),
        (["11/14/2023", "14/11/2023"], r"1 as dates written DD.MM.YYYY .* 1 as dates written MM/DD/YYYY"),
        (["14.11.2023", "1700000000"], r"1 as dates written out .* 1 as numbers"),
    ],
)
def test_read_times_when_units_are_mixed_then_are_refused_with_counts(values: list, said: str) -> None:
    with pytest.raises(DataError, match=said) as refused:
        _read(values)
    assert "--time-unit" in str(refused.value)


def test_read_times_when_a_number_above_12_tells_day_from_month_then_all_are_read_so() -> None:
    # 2023-11-14 is day 19675; 2023-11-12 is two days before; 2023-12-11 is 27 days after
    days = [19_673, 19_675]
    assert _read(["12/11/2023", "14/11/2023"]).seconds_E.tolist() == [day * 86_400 for day in days]
    assert _read(["11/12/2023", "11-14-2023"]).seconds_E.tolist() == [day * 86_400 for day in days]
    assert _read(["12/11/2023", "12/12/2023"], unit="dmy").seconds_E.tolist() == [19_673 * 86_400, 19_703 * 86_400]
    assert _read(["12/11/2023"], unit="mdy").seconds_E.tolist() == [19_702 * 86_400]
    assert "day first" in _read(["12.11.2023"]).notes[0]


def test_read_times_when_day_and_month_could_be_exchanged_then_are_refused_with_the_remedy() -> None:
    with pytest.raises(DataError, match=r"'12/11/2023' and no number above 12.*--time-unit dmy or --time-unit mdy"):
        _read(["12/11/2023", "01/02/2023"])


def test_read_times_when_hours_are_of_half_days_then_noon_and_midnight_are_told_apart() -> None:
    # 1700000000 is 22:13:20 of 2023-11-14, whose midnight is 1699920000
    times = _read(["2023-11-14 12:00 AM", "2023-11-14 12:00 pm", "2023-11-14 10:13:20PM", "2023-11-14 13:00 PM"])
    assert times.seconds_E.tolist() == [1_699_920_000, 1_699_920_000 + 43_200, _T, 0]
    assert times.valid_E.tolist() == [True, True, True, False]


def test_read_times_when_a_unit_is_given_then_numbers_are_believed() -> None:
    times = _read([_T, 45_000, _T * 1000], unit="s")
    assert times.seconds_E.tolist() == [_T, 45_000, _T * 1000]
    assert any("1 times kept: timestamp in the future" in note for note in times.notes)
    assert _read([45_000, 45_001]).seconds_E.tolist() == [(45_000 - 25_569) * 86_400, (45_001 - 25_569) * 86_400]
    assert _read([45_000, 45_001], unit="s").seconds_E.tolist() == [45_000, 45_001]
    assert _read([19_675], unit="days").seconds_E.tolist() == [19_675 * 86_400]
    with pytest.raises(CallError, match="must be one of s, ms"):
        _read([1], unit="weeks")
    with pytest.raises(DataError, match="must hold text to be read as iso"):
        _read([1], unit="iso")


def test_read_times_when_clocks_are_wrong_then_outliers_are_counted_and_left_out() -> None:
    times = _read([4_102_444_800, _T, _T + 1, _T + 2, 0, 7, -3])
    assert times.valid_E.tolist() == [False, True, True, True, False, False, False]
    assert times.notes == ("timestamp is read as seconds since 1970: 1700000000 is 2023-11-14 22:13:20 UTC",)
    assert times.faults == {
        "timestamp in the future": 1,
        "timestamp before 1970": 1,
        "timestamp before 1973 in a log of today": 2,
    }


def test_read_times_when_most_times_cannot_be_then_is_refused_and_a_unit_keeps_them() -> None:
    with pytest.raises(DataError, match=r"2 of 3: timestamp before 1970 .*--time-unit s"):
        _read([-100, -200, 5])
    assert _read([-100, -200, 5], unit="s").seconds_E.tolist() == [-100, -200, 5]


def test_read_times_when_a_count_from_zero_then_small_numbers_stay() -> None:
    assert _read([0, 1, 2, 25_569]).seconds_E.tolist() == [0, 1, 2, 25_569]


def test_read_times_when_text_is_no_time_then_says_what_to_write() -> None:
    with pytest.raises(DataError, match=r"got '14 Nov 2023'.*YYYY-MM-DD"):
        _read(["14 Nov 2023", "15 Nov 2023"])
    times = _read(["2023-02-30", "2023-02-28", "soon", None])
    assert (times.valid_E.tolist(), times.faults) == ([False, True, False, False], {"timestamp not a time": 3})


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)).map(lambda v: pa.array(v, pa.int64())),
        st.lists(st.none() | st.integers(0, 2**64 - 1)).map(lambda v: pa.array(v, pa.uint64())),
        st.lists(st.none() | st.floats()).map(lambda v: pa.array(v, pa.float64())),
        st.lists(st.none() | st.text(max_size=8) | st.datetimes().map(str)).map(lambda v: pa.array(v, pa.string())),
        st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)).map(lambda v: pa.array(v, pa.timestamp("us"))),
    ),
    st.sampled_from([None, "s", "ms", "us", "ns", "days", "excel", "yyyymmdd", "iso", "dmy", "mdy"]),
)
def test_read_times_when_fed_anything_then_rows_are_valid_or_counted(column: pa.Array, unit: str | None) -> None:
    try:
        times = read_times(pa.chunked_array([column]), "timestamp", unit=unit, now=_NOW)
    except DataError:
        return
    assert times.valid_E.sum() + sum(times.faults.values()) == len(column)
    assert ((times.nanoseconds_E >= 0) & (times.nanoseconds_E < 10**9)).all()


@given(st.dates())
def test_days_of_when_any_day_then_equals_the_calendar(day: object) -> None:
    year, month, number = (np.array([getattr(day, name)]) for name in ("year", "month", "day"))
    days_E, valid_E = days_of(year, month, number)
    assert (days_E[0], bool(valid_E[0])) == ((day - datetime(1970, 1, 1).date()).days, True)  # type: ignore[operator]


def test_days_of_when_there_is_no_such_day_then_invalid() -> None:
    years, months, days = (
        np.array([2023, 2024, 1900, 2023, 2023]),
        np.array([2, 2, 2, 13, 4]),
        np.array([29] * 3 + [1, 31]),
    )
    assert days_of(years, months, days)[1].tolist() == [False, True, False, False, False]
