"""Importers fed anything: they end with a data set or one message, and every row of the file is kept or counted."""

import gzip
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.importing import run_import
from recsys.core.errors import ArtifactError, DataError
from recsys.data.importers import IMPORTERS
from recsys.data.options import ImportOptions
from recsys.data.table import Dataset, read_dataset

_OPTIONS = ImportOptions(allow_unmatched=True)
_WORD = st.sampled_from(
    [
        *("", "1", "007", "7.0", "x", "-5", "nan", "NULL", "1e400", "9" * 30, "1.5", "é", "\x00", "a|b", "['a', 'b']"),
        *(
            "1700000000",
            "1700000001.5",
            "1700000000000",
            "2023-11-14",
            "2023-11-14T22:13:20Z",
            "20231114",
            "45000",
            "0",
        ),
    ]
)
_LINE = st.lists(_WORD, max_size=5)
_QUOTED = st.sampled_from(['"', '"a', 'a"', '"a,b"', '"a\nb"', '"', "\r", "\n"])
_HEADERS = ("user_id,item_id,timestamp", "uid,asin,ts,rating", "user_id:token,item_id:token,timestamp:float", "a,b", "")
_CELLS = st.lists(st.lists(_WORD | _QUOTED, max_size=5).map(",".join), max_size=12)
_TEXT = st.builds(lambda header, lines: "\n".join([header, *lines]).encode(), st.sampled_from(_HEADERS), _CELLS)
_BYTES = st.binary(max_size=200) | _TEXT | _TEXT.map(gzip.compress) | _TEXT.map(lambda b: gzip.compress(b)[:-9])
_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | _WORD | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
_KEY = st.sampled_from(["user_id", "item_id", "timestamp", "rating", "weight", "event_type", "position", "x", "\ud800"])
_JSON = st.lists(st.dictionaries(_KEY, _VALUE, max_size=6).map(json.dumps) | st.just("{no"), max_size=8).map(
    lambda lines: "\n".join(lines).encode()
)
_NAMES = ("user_id", "item_id", "timestamp", "position", "rating", "weight", "event_type", "other")
_SMALL = st.integers(-3, 3) | st.integers(1_699_999_990, 1_700_000_010)
_KINDS = st.sampled_from(
    [
        *(pa.int64(), pa.int8(), pa.uint64(), pa.float64(), pa.float32(), pa.string(), pa.large_string(), pa.bool_()),
        *(pa.timestamp("us"), pa.timestamp("ns", "UTC"), pa.date32(), pa.decimal128(38, 2), pa.binary(), pa.null()),
        *(pa.list_(pa.int64()), pa.dictionary(pa.int32(), pa.string()), pa.string_view(), pa.duration("s")),
    ]
)


@st.composite
def _tables(draw: st.DrawFn) -> pa.Table:
    """Draw a Parquet table with the contract's names and columns of any type."""
    rows = draw(st.integers(0, 6))
    names = draw(st.permutations(_NAMES).map(lambda names: names[: draw(st.integers(3, len(names)))]))
    names = list(dict.fromkeys(["user_id", "item_id", "timestamp", *names]))
    columns = {}
    for name in names:
        values = draw(st.lists(st.none() | _SMALL, min_size=rows, max_size=rows))
        kind = draw(st.sampled_from([pa.int64(), pa.string()]) | _KINDS)
        columns[name] = _as(values, kind)
    return pa.table(columns)


def _as(values: list[int | None], kind: pa.DataType) -> pa.Array:
    """Return small numbers in a type, or nulls where it cannot hold them."""
    try:
        if pa.types.is_dictionary(kind):
            return pa.array(values, pa.int64()).cast(pa.string()).dictionary_encode()
        return pa.array(values, pa.int64()).cast(kind, safe=False)
    except (pa.ArrowException, ValueError):
        return pa.nulls(len(values), kind)


def _imported(format: str, files: Mapping[str, bytes]) -> Dataset | None:
    """Import as the command does; None where it ends with its one message and exit code 1."""
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "source", Path(name) / "target"
        source.mkdir()
        for file, content in files.items():
            (source / file).write_bytes(content)
        try:
            lines = list(run_import(format, source, target, _OPTIONS))
        except (DataError, ArtifactError):  # both end with exit code 1
            assert not list(target.glob("*.parquet"))  # nothing is half written
            return None
        assert all(line.isprintable() for line in lines)
        dataset = read_dataset(target)
    needed = ("user_id", "item_id", "timestamp", "position")
    assert dataset.interactions.num_rows > 0
    assert all(dataset.interactions[name].null_count == 0 for name in needed)
    return dataset


def _accounted(dataset: Dataset) -> int:
    """Return the rows of the interactions that are kept or counted."""
    counts = dataset.bad_rows.counts.items()
    return dataset.interactions.num_rows + sum(n for cause, n in counts if not cause.endswith(" in items"))


def _check_text(lines: list[list[str]], items: bytes) -> None:
    """Without quotes and line breaks inside values every filled line is a row that is kept or counted."""
    text = "\n".join(["user_id,item_id,timestamp", *map(",".join, lines)])
    dataset = _imported("csv", {"interactions.csv": text.encode(), "items.csv": items})
    if dataset is not None:
        assert _accounted(dataset) == sum(bool(",".join(line)) for line in lines)


def _check_table(table: pa.Table, items: pa.Table) -> None:
    sink, items_sink = pa.BufferOutputStream(), pa.BufferOutputStream()
    pq.write_table(table, sink)
    pq.write_table(items, items_sink)
    files = {"interactions.parquet": bytes(sink.getvalue()), "items.parquet": bytes(items_sink.getvalue())}
    dataset = _imported("parquet", files)
    if dataset is not None:
        assert _accounted(dataset) == table.num_rows
    cut = files["interactions.parquet"]
    assert _imported("parquet", files | {"interactions.parquet": cut[: len(cut) * 2 // 3]}) is None


def _check_json(content: bytes) -> None:
    dataset = _imported("jsonl", {"log.jsonl": content})
    if dataset is not None and content:
        assert _accounted(dataset) == len(content.split(b"\n"))


def _check_bytes(content: bytes, items: bytes) -> None:
    for format, name in (("csv", "interactions.csv"), ("jsonl", "log.jsonl"), ("parquet", "interactions.parquet")):
        _imported(format, {name: content, "items" + Path(name).suffix: items})


def _check_named(format: str, content: bytes, items: bytes) -> None:
    names = {
        "movielens": ("ratings.csv", "movies.csv"),
        "amazon-reviews": ("reviews.json", "meta_reviews.json"),
        "kuairand": ("log_standard.csv", "video_features_basic.csv"),
        "coat": ("train.ascii", "test.ascii"),
        "open-bandit": ("interactions.parquet", "items.parquet"),
        "auto": ("a.csv", "b.jsonl"),
    }
    log, other = names[format]
    _imported(format, {log: content, other: items})


_ITEMS = st.binary(max_size=50) | st.just(b"item_id,title,categories\n1,x,a|b\n") | _TEXT
_ITEM_TABLES = st.just(pa.table({"item_id": ["1"]})) | _tables().map(
    lambda table: table.select(["item_id", "timestamp"])
)
_OTHERS = st.sampled_from(["amazon-reviews", "auto", "coat", "kuairand", "movielens", "open-bandit"])


@settings(max_examples=40)
@given(st.lists(_LINE, max_size=12), _ITEMS)
def test_csv_when_fed_any_lines_then_every_line_is_kept_or_counted(lines: list[list[str]], items: bytes) -> None:
    _check_text(lines, items)


@settings(max_examples=30)
@given(_tables(), _ITEM_TABLES)
def test_parquet_when_fed_any_types_then_every_row_is_kept_or_counted(table: pa.Table, items: pa.Table) -> None:
    _check_table(table, items)


@settings(max_examples=40)
@given(_JSON)
def test_json_when_fed_any_objects_then_every_line_is_kept_or_counted(content: bytes) -> None:
    _check_json(content)


@settings(max_examples=40)
@given(_BYTES | _JSON, _ITEMS)
def test_importers_when_fed_any_bytes_then_end_with_a_data_set_or_one_message(content: bytes, items: bytes) -> None:
    _check_bytes(content, items)


@settings(max_examples=60)
@given(_OTHERS, _BYTES | _JSON, _ITEMS)
def test_named_formats_when_fed_any_bytes_then_end_with_a_data_set_or_one_message(
    format: str, content: bytes, items: bytes
) -> None:
    _check_named(format, content, items)


def test_fuzzed_formats_when_listed_then_are_all_there_are() -> None:
    assert set(IMPORTERS) == {
        *("csv", "parquet", "jsonl"),
        *("amazon-reviews", "auto", "coat", "kuairand", "movielens", "open-bandit"),
    }


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif("RECSYS_FUZZ" not in os.environ, reason="ten thousand inputs take minutes: make fuzz")
@settings(max_examples=10_000)
@given(st.data())
def test_importers_when_fed_ten_thousand_inputs_then_never_a_traceback_and_no_row_is_lost(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["text", "table", "json", "bytes", "named"]))
    if kind == "text":
        _check_text(data.draw(st.lists(_LINE, max_size=12)), data.draw(_ITEMS))
    elif kind == "table":
        _check_table(data.draw(_tables()), data.draw(_ITEM_TABLES))
    elif kind == "json":
        _check_json(data.draw(_JSON))
    elif kind == "bytes":
        _check_bytes(data.draw(_BYTES | _JSON), data.draw(_ITEMS))
    else:
        _check_named(data.draw(_OTHERS), data.draw(_BYTES | _JSON), data.draw(_ITEMS))
