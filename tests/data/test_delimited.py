"""Delimited text: every line is a row, blank, or counted; separators and packing are recognised."""

import bz2
import csv
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.core.errors import DataError
from recsys.data.importers.delimited import Form, read_delimited
from recsys.data.importers.raw import RawTable

_TEXT = "user_id,item_id,timestamp\n1,2,3\n4,5,6\n"


def _read(folder: Path, content: str | bytes, form: Form | None = None) -> RawTable:
    path = folder / "a.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_delimited(path, form)


def _zip(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as files:
        files.writestr("a.csv", data)
    return out.getvalue()


def _zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(data)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress, _zip, _zstd])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_read_delimited_when_written_by_any_tool_then_is_the_same_table(
    tmp_path: Path, pack: Callable[[bytes], bytes], encoding: str, separator: str, end: str
) -> None:
    raw = _read(tmp_path, pack(_TEXT.replace(",", separator).replace("\n", end).encode(encoding)))
    assert raw.table.to_pydict() == {"user_id": ["1", "4"], "item_id": ["2", "5"], "timestamp": ["3", "6"]}
    assert not raw.counts


def test_read_delimited_when_packed_files_are_cut_off_then_names_the_file(tmp_path: Path) -> None:
    for pack in (gzip.compress, bz2.compress, lzma.compress, _zip, _zstd):
        whole = pack(_TEXT.encode() * 50)
        with pytest.raises(DataError, match=r"a\.csv must be a whole packed file"):
            _read(tmp_path, whole[: len(whole) // 2])


def test_read_delimited_when_a_value_has_line_breaks_then_it_is_one_row(tmp_path: Path) -> None:
    raw = _read(tmp_path, 'item_id,title\n1,"a\nb, c, d"\n2,x\n')
    assert raw.table["title"].to_pylist() == ["a\nb, c, d", "x"]
    assert not raw.counts


def test_read_delimited_when_quotes_stay_open_then_they_cost_their_own_lines_only(tmp_path: Path) -> None:
    lines = ["item_id,title", '1,"open', "2,b", '3,"c"', '4,"open too', "5,e", ""]
    raw = _read(tmp_path, "\n".join(lines))
    assert raw.table["item_id"].to_pylist() == ["2", "3", "5"]
    assert raw.counts == {"quote left open": 2}


def test_read_delimited_when_an_inch_sign_closes_an_open_quote_then_the_rows_between_are_kept(tmp_path: Path) -> None:
    raw = _read(tmp_path, 'item_id,kind,title\n1,a,"pan\n2,a,lid\n3,a,lid 7"\n4,a,pot\n')
    assert raw.table["item_id"].to_pylist() == ["2", "3", "4"]
    assert raw.table["title"].to_pylist() == ["lid", 'lid 7"', "pot"]
    assert raw.counts == {"quote left open": 1}


def test_read_delimited_when_columns_are_numbered_then_the_first_line_is_a_row(tmp_path: Path) -> None:
    raw = _read(tmp_path, "1,2,3\n4,5,6\n", Form(numbered=True))
    assert raw.table.to_pydict() == {"1": ["1", "4"], "2": ["2", "5"], "3": ["3", "6"]}


_CELL = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=6)
_ROWS = st.lists(st.lists(_CELL, min_size=3, max_size=3), min_size=1, max_size=8)


@settings(max_examples=80, deadline=None)
@given(_ROWS)
def test_read_delimited_when_written_by_the_csv_module_then_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([["user_id", "item_id", "timestamp"], *rows])
    raw = _read(tmp_path_factory.mktemp("a"), out.getvalue())
    assert [list(row.values()) for row in raw.table.to_pylist()] == [[cell or None for cell in row] for row in rows]
    assert not raw.counts


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(st.sampled_from('1a,"; \t'), max_size=8), max_size=12))
def test_read_delimited_when_lines_are_any_then_rows_and_counts_make_up_the_lines(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    raw = _read(tmp_path_factory.mktemp("a"), "\n".join(["user_id,item_id,timestamp", *lines]), Form(delimiter=","))
    # a kept row takes one line and one more for each line break inside its values
    kept = sum(
        1 + sum(len(part) > 0 for value in row.values() for part in (value or "").split("\n")[1:])
        for row in raw.table.to_pylist()
    )
    filled = sum(bool(line) for line in lines)
    assert raw.table.num_rows + sum(raw.counts.values()) <= filled
    assert kept + sum(raw.counts.values()) <= filled
    if not any('"' in line for line in lines):
        assert raw.table.num_rows + sum(raw.counts.values()) == filled
