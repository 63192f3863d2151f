"""Tables of any make: files are found, columns understood, the same world is the same data set."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.core.errors import CallError, DataError
from recsys.data.importers import import_dataset
from recsys.data.importers.headers import kind_of, parse_map
from recsys.data.options import ImportOptions
from recsys.data.table import Dataset, read_dataset, write_dataset

_T = 1_700_000_000
_ROWS = [("007", "a", _T), ("7", "b", _T + 1), ("7", "a", _T + 2)]


def _rows(dataset: Dataset) -> list[tuple]:
    return [(row["user_id"], row["item_id"], row["timestamp"]) for row in dataset.interactions.to_pylist()]


def _csv(header: str, rows: list[tuple] | None = None, separator: str = ",") -> str:
    lines = [header, *(",".join(map(str, row)) for row in (rows or _ROWS))]
    return "\n".join(lines).replace(",", separator) + "\n"


@pytest.mark.parametrize(
    "header",
    [
        "user_id,item_id,timestamp",
        "userId,movieId,timestamp",
        "user,item,ts",
        "uid,asin,Time",
        "Customer ID,product-id,event_time",
        "Kunde,Artikel-Nr,Bestelldatum",
        "user.id,item.id,Purchased At",
        "Customer No.,StockCode,InvoiceDate",
        "user_id:token,item_id:token,timestamp:float",
        '"user_id","item_id","timestamp"',
    ],
)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_when_columns_have_other_names_then_they_are_understood(
    tmp_path: Path, header: str, separator: str
) -> None:
    (tmp_path / "log.csv").write_text(_csv(header, separator=separator))
    assert _rows(import_dataset("auto", tmp_path)) == _ROWS


def test_import_when_every_door_is_given_one_world_then_the_data_sets_are_equal(tmp_path: Path) -> None:
    table = pa.table(dict(zip(("user_id", "item_id", "timestamp"), map(list, zip(*_ROWS, strict=True)), strict=True)))
    objects = "\n".join(json.dumps(row) for row in table.to_pylist())
    for name, content in {
        "csv/interactions.csv": _csv("user_id,item_id,timestamp").encode(),
        "gz/log.csv.gz": gzip.compress(_csv("user_id,item_id,timestamp").encode()),
        "jsonl/log.jsonl": objects.encode(),
        "list/log.json": json.dumps(table.to_pylist()).encode(),
        "recbole/x.inter": _csv("user_id:token,item_id:token,timestamp:float", separator="\t").encode(),
    }.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(content)
    for place in range(3):
        part = tmp_path / "parts" / f"day={place}" / f"part-{place}.parquet"
        part.parent.mkdir(parents=True)
        pq.write_table(table[place : place + 1], part)
    for folder in ("csv", "gz", "jsonl", "list", "recbole", "parts"):
        assert _rows(import_dataset("auto", tmp_path / folder)) == _ROWS, folder


def test_csv_when_ids_of_19_digits_have_another_name_then_no_digit_is_lost(tmp_path: Path) -> None:
    big = 9_148_955_329_465_708_001
    (tmp_path / "log.csv").write_text(_csv("uid,sku,ts", [(big, big + 1, _T)]))
    assert _rows(import_dataset("csv", tmp_path / "log.csv")) == [(big, big + 1, _T)]


def test_csv_when_several_columns_may_be_meant_then_is_refused_until_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(_csv("uid,customer,item,ts", [("u", "c", "i", _T)]))
    with pytest.raises(DataError, match=r"one column must be user_id, got \['uid', 'customer'\].*--map user_id=uid"):
        import_dataset("csv", tmp_path / "log.csv")
    dataset = import_dataset("csv", tmp_path / "log.csv", ImportOptions(columns={"user_id": "customer"}))
    assert _rows(dataset) == [("c", "i", _T)]
    assert "columns of the interactions that nothing uses: 'uid'" in dataset.notes


def test_csv_when_mapped_over_a_column_of_the_contract_then_the_word_of_the_caller_counts(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(_csv("user_id,item_id,sku,timestamp", [("u", "wrong", "right", _T)]))
    dataset = import_dataset("csv", tmp_path, ImportOptions(columns={"item_id": "sku"}))
    assert _rows(dataset) == [("u", "right", _T)]


def test_csv_when_there_is_no_header_then_columns_are_named_by_number(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(f"{_T},x,1\n{_T + 1},y,2\n")
    with pytest.raises(DataError, match="--map user_id=1"):
        import_dataset("csv", tmp_path / "log.csv")
    numbered = ImportOptions(columns={"user_id": "3", "item_id": "2", "timestamp": "1"})
    assert _rows(import_dataset("csv", tmp_path / "log.csv", numbered)) == [(1, "x", _T), (2, "y", _T + 1)]


def test_csv_when_a_named_column_is_not_there_then_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(_csv("user_id,item_id,timestamp"))
    with pytest.raises(DataError, match=r"column 'sku' \(--map item_id=sku\) must be there"):
        import_dataset("csv", tmp_path / "log.csv", ImportOptions(columns={"item_id": "sku"}))


@pytest.mark.parametrize("pair", ["item_id", "item=sku", "item_id="])
def test_parse_map_when_not_a_pair_then_call_error(pair: str) -> None:
    with pytest.raises(CallError, match="--map must be NAME=ITS_NAME"):
        parse_map([pair])


def test_folder_when_files_have_other_names_then_columns_tell_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text(_csv("userId,movieId,timestamp"))
    (tmp_path / "movies.csv").write_text("movieId,title,genres,price\na,Heat,Crime | Drama,3\nb,Alien,,4\n")
    (tmp_path / "users.csv").write_text("userId,age\n7,30\n")
    dataset = import_dataset("csv", tmp_path)
    assert _rows(dataset) == _ROWS
    assert dataset.items["categories"].to_pylist() == [["Crime", "Drama"], None]
    assert "files that nothing uses: users.csv" in dataset.notes
    assert "columns of the items that are kept and not learned from: 'price'" in dataset.notes
    assert kind_of(["userId", "age"], {}) is None


def test_parquet_parts_when_types_differ_then_ids_are_still_the_same(tmp_path: Path) -> None:
    first = pa.table({"user_id": pa.array([7], pa.int32()), "item_id": [1.0], "timestamp": [_T]})
    second = pa.table({"user_id": ["7"], "item_id": pa.array([2], pa.int64()), "timestamp": [_T + 1]})
    pq.write_table(first, tmp_path / "part-0.parquet")
    pq.write_table(second, tmp_path / "part-1.parquet")
    assert _rows(import_dataset("parquet", tmp_path)) == [(7, 1, _T), (7, 2, _T + 1)]


def test_import_when_events_are_less_than_a_second_apart_then_order_stays_and_none_is_a_duplicate(
    tmp_path: Path,
) -> None:
    rows = [("u", "a", f"{_T}.9"), ("u", "a", f"{_T}.2"), ("u", "b", f"{_T}.5"), ("u", "a", f"{_T}.2")]
    (tmp_path / "log.csv").write_text(_csv("user_id,item_id,timestamp", rows))
    dataset = import_dataset("csv", tmp_path)
    assert dataset.bad_rows.counts == {"duplicate": 1}
    table = dataset.interactions.sort_by([("timestamp", "ascending"), ("position", "ascending")])
    assert table["item_id"].to_pylist() == ["a", "b", "a"]


def test_import_when_values_do_not_fit_then_they_are_noted_with_an_example(tmp_path: Path) -> None:
    rows = [("u", "a", _T, "5", "x"), ("u", "b", _T + 1, "N/A", "x"), ("u", "c", _T + 2, "good", "x")]
    rows.append(("u", "d", _T + 3, "", "x"))
    (tmp_path / "log.csv").write_text(_csv("user_id,item_id,timestamp,rating,shop", rows))
    dataset = import_dataset("csv", tmp_path)
    assert dataset.interactions["rating"].to_pylist() == [5.0, None, None, None]
    assert "1 values of rating are no numbers, e.g. 'good'; the events stay without one" in dataset.notes
    assert "columns of the interactions that nothing uses: 'shop'" in dataset.notes


def test_import_when_ratings_have_decimal_commas_then_they_are_read_and_said(tmp_path: Path) -> None:
    rows = [("u", "a", _T, "3,5"), ("u", "b", _T + 1, "4"), ("u", "c", _T + 2, "1,000")]
    lines = ["user_id;item_id;timestamp;rating", *(";".join(map(str, row)) for row in rows)]
    (tmp_path / "log.csv").write_text("\n".join(lines))
    dataset = import_dataset("csv", tmp_path)
    assert dataset.interactions["rating"].to_pylist() == [3.5, 4.0, None]  # 1,000 may be a thousand
    assert "rating is read with decimal commas: '3,5'" in dataset.notes
    assert "1 values of rating are no numbers, e.g. '1,000'; the events stay without one" in dataset.notes


def test_import_when_json_has_objects_in_objects_then_their_fields_are_columns(tmp_path: Path) -> None:
    lines = [{"user": {"id": "007"}, "item": {"id": "a", "price": {"eur": 3}}, "ts": _T}]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    dataset = import_dataset("jsonl", tmp_path)
    assert _rows(dataset) == [("007", "a", _T)]
    assert "columns of the interactions are read: 'user.id' as user_id, 'item.id' as item_id, 'ts' as timestamp" in (
        dataset.notes
    )
    assert dataset.interactions["item.price"].to_pylist() == ['{"eur": 3}']


def test_import_when_no_file_is_a_log_then_the_columns_of_each_are_said(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text("user_id,item_id,moment\n1,2,3\n")
    (tmp_path / "goods.csv").write_text("item_id,title\n2,Lamp\n")
    with pytest.raises(
        DataError, match=r"orders\.csv with columns \['user_id', 'item_id', 'moment'\].*goods\.csv with"
    ):
        import_dataset("auto", tmp_path)
    dataset = import_dataset("auto", tmp_path, ImportOptions(columns={"timestamp": "moment"}))
    assert (_rows(dataset), dataset.items["title"].to_pylist()) == ([(1, 2, 3)], ["Lamp"])


def test_auto_when_a_folder_holds_sheets_then_says_to_save_them_as_csv(tmp_path: Path) -> None:
    (tmp_path / "orders.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match=r"got \['orders\.xlsx'\]; save sheets as CSV"):
        import_dataset("auto", tmp_path)


def test_import_when_json_lines_are_mixed_then_bad_ones_are_counted(tmp_path: Path) -> None:
    lines = [{"user_id": 1, "item_id": "a", "ts": _T}, {"user_id": "2", "item_id": 7.0, "ts": _T}, [1], "x"]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n{broken\n")
    dataset = import_dataset("jsonl", tmp_path / "log.jsonl")
    assert _rows(dataset) == [(1, "a", _T), (2, "7", _T)]
    assert dataset.bad_rows.counts == {"line not a JSON object": 3}


def test_auto_when_nothing_is_a_table_then_says_what_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "notes.docx").write_text("x")
    with pytest.raises(DataError, match=r"ends in \.csv"):
        import_dataset("auto", tmp_path)


def test_read_dataset_when_others_wrote_milliseconds_then_is_recognised_and_what_we_wrote_is_believed(
    tmp_path: Path,
) -> None:
    rows = {"user_id": [1, 2], "item_id": [1, 2]}
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    pq.write_table(pa.table(rows | {"timestamp": [_T * 1000, _T * 1000 + 500]}), theirs / "interactions.parquet")
    assert [row[2] for row in _rows(read_dataset(theirs))] == [_T, _T]
    # 45000 and 45001 look like spreadsheet days; imported as seconds they stay seconds when they are read again
    pq.write_table(pa.table(rows | {"timestamp": [45_000, 45_001]}), tmp_path / "log.parquet")
    imported = import_dataset("parquet", tmp_path / "log.parquet", ImportOptions(time_unit="s"))
    write_dataset(imported, tmp_path / "ours")
    again = read_dataset(tmp_path / "ours")
    assert [row[2] for row in _rows(again)] == [45_000, 45_001]
    assert again.notes == imported.notes


@pytest.mark.parametrize("name", ["log.parquet", "parts"])
def test_parquet_when_a_file_is_cut_off_then_names_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "part-0.parquet" if name == "parts" else tmp_path / name
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"user_id": [1] * 50, "item_id": [1] * 50, "timestamp": [_T] * 50}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=rf"{path.name} must be a Parquet file"):
        import_dataset("parquet", tmp_path / name)


def test_import_when_a_needed_column_is_not_told_then_says_which_of_which_file(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text("Customer;What;Date\nC1;P1;2024-01-02\n")
    with pytest.raises(DataError, match=r"none of them read as item_id;.*as in --map item_id=ITS_NAME"):
        import_dataset("csv", tmp_path)
