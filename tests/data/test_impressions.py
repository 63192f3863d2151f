"""Logs of what was shown: KuaiRand, Open Bandit and Coat become interactions and impressions with propensities."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.core.errors import DataError
from recsys.data.importers import import_dataset
from recsys.data.impressions import clean_impressions
from recsys.data.table import Dataset, read_dataset, write_dataset

_KUAI = "user_id,video_id,time_ms,is_click,is_like,is_hate,is_rand"
_T = 1_650_812_741


def _kuairand(folder: Path) -> Dataset:
    standard = [f"1,10,{_T}436,1,0,0,0", f"1,11,{_T}437,1,1,0,0", f"2,10,{_T}000,0,0,0,0", f"2,12,{_T}000,0,0,1,0"]
    random = [f"1,12,{_T + 9}000,0,0,0,1", f"2,11,{_T + 9}000,1,0,0,1"]
    (folder / "log_standard_x.csv").write_text("\n".join([_KUAI, *standard]))
    (folder / "log_random_x.csv").write_text("\n".join([_KUAI, *random]))
    (folder / "video_features_basic_x.csv").write_text("video_id,tag\n10,a\n11,b\n12,\n")
    return import_dataset("kuairand", folder)


def test_kuairand_when_imported_then_actions_are_interactions_and_all_exposures_impressions(tmp_path: Path) -> None:
    dataset = _kuairand(tmp_path)
    rows = {(row["user_id"], row["item_id"], row["event_type"]) for row in dataset.interactions.to_pylist()}
    # the most telling action names the type; exposures without an action stay impressions only
    assert rows == {(1, 10, "click"), (1, 11, "like"), (2, 12, "hate"), (2, 11, "click")}
    assert dataset.bad_rows.counts["exposure without an action"] == 2
    shown = dataset.impressions
    assert shown is not None
    assert shown.num_rows == 6
    by_policy = {(row["policy"], row["propensity"]) for row in shown.to_pylist()}
    # the random experiment showed two videos, 11 and 12, each with chance 1/2; the feed's chances are not known
    assert by_policy == {("random", 0.5), ("feed", None)}
    assert sum(shown["reward"].to_pylist()) == 3


def test_kuairand_when_events_share_a_second_then_milliseconds_order_them(tmp_path: Path) -> None:
    table = _kuairand(tmp_path).interactions.sort_by([("timestamp", "ascending"), ("position", "ascending")])
    assert [row["item_id"] for row in table.to_pylist() if row["user_id"] == 1] == [10, 11]


_BANDIT = "timestamp,item_id,position,click,propensity_score,user_feature_0,user_feature_1"


def test_open_bandit_when_published_layout_then_items_are_named_by_campaign(tmp_path: Path) -> None:
    for policy, campaign, lines in (
        (
            "random",
            "men",
            ["2019-11-24 00:00:34.762830+00:00,3,1,1,0.25,a,b", "2019-11-24 00:00:35+00:00,4,2,0,0.25,a,c"],
        ),
        ("bts", "women", ["2019-11-25 00:00:00+00:00,3,3,1,0.5,a,b"]),
    ):
        folder = tmp_path / policy / campaign
        folder.mkdir(parents=True)
        (folder / f"{campaign}.csv").write_text("\n".join([_BANDIT, *lines]) + "\n")
        (folder / "item_context.csv").write_text("item_id,item_feature_0\n3,0.5\n4,0.1\n")
    dataset = import_dataset("open-bandit", tmp_path)
    assert dataset.interactions["item_id"].to_pylist() == ["women-3", "men-3"]
    assert dataset.bad_rows.counts == {"impression without a click": 1}
    shown = dataset.impressions
    assert shown is not None
    assert shown["propensity"].to_pylist() == [0.5, 0.25, 0.25]
    assert shown["policy"].to_pylist() == ["bts", "random", "random"]
    assert shown["position"].to_pylist() == [3, 1, 2]
    # 2019-11-24 00:00:34 UTC is 18224 days and 34 seconds after 1970
    assert shown["timestamp"].to_pylist()[1] == 18_224 * 86_400 + 34
    assert shown["context"].to_pylist() == ["a|b", "a|b", "a|c"]


def test_open_bandit_when_nothing_was_clicked_then_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "random" / "all"
    folder.mkdir(parents=True)
    (folder / "all.csv").write_text(f"{_BANDIT}\n2019-11-24 00:00:34+00:00,3,1,0,0.25,a,b\n")
    with pytest.raises(DataError, match="at least one click, got none in 1 rows"):
        import_dataset("open-bandit", tmp_path)


def test_coat_when_published_layout_then_given_coats_have_the_chance_of_the_experiment(tmp_path: Path) -> None:
    (tmp_path / "train.ascii").write_text("5 0 0 2\n0 3 0 0\n")
    (tmp_path / "test.ascii").write_text("0 1 0 0\n0 0 4 0\n")
    dataset = import_dataset("coat", tmp_path)
    kept = [(row["user_id"], row["item_id"], row["rating"]) for row in dataset.interactions.to_pylist()]
    assert kept == [(0, 0, 5.0), (0, 3, 2.0), (1, 1, 3.0)]
    shown = dataset.impressions
    assert shown is not None
    # each of two users was given one of four coats: chance 1/4; the chances of chosen coats are not in these files
    assert {(row["policy"], row["propensity"]) for row in shown.to_pylist()} == {
        ("random", 0.25),
        ("self_selected", None),
    }
    assert any("no times" in note for note in dataset.notes)


def test_impressions_when_written_and_read_then_are_the_same(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    dataset = _kuairand(source)
    write_dataset(dataset, tmp_path / "data")
    again = read_dataset(tmp_path / "data")
    assert again.impressions is not None
    assert dataset.impressions is not None
    assert again.impressions.to_pylist() == dataset.impressions.to_pylist()
    assert again.notes == dataset.notes
    assert again.interactions.to_pylist() == dataset.interactions.to_pylist()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"propensity": [0.0, 0.5]}, "column 'propensity' must lie above 0 and at most at 1, got 0.0 to 0.5"),
        ({"propensity": [0.1, 1.5]}, "got 0.1 to 1.5"),
        ({"reward": [None, 1.0]}, "column 'reward' must have a value in every row, got none in row 1"),
        ({"item_id": ["1", "NULL"]}, "column 'item_id' must have a value in every row, got none in row 2"),
    ],
)
def test_clean_impressions_when_a_value_cannot_be_then_is_refused(change: dict[str, list], said: str) -> None:
    rows = {name: [1, 2] for name in ("request_id", "user_id", "item_id", "position", "timestamp", "reward")}
    with pytest.raises(DataError, match=said.replace(".", r"\.")):
        clean_impressions(pa.table(rows | change), "impressions")


def test_parquet_when_impressions_lie_beside_then_they_are_imported_too(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    rows = {"user_id": [1, 2], "item_id": [1, 2], "timestamp": [_T, _T]}
    pq.write_table(pa.table(rows), source / "interactions.parquet")
    pq.write_table(
        pa.table(rows | {"request_id": [1, 2], "position": [1, 1], "reward": [0, 1]}), source / "impressions.parquet"
    )
    shown = import_dataset("parquet", source).impressions
    assert shown is not None
    assert shown["reward"].to_pylist() == [0.0, 1.0]


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("format", "name", "impressions", "known"),
    [
        ("kuairand", "kuairand_pure_sample", 228_329, 0),
        ("open-bandit", "open_bandit_sample", 60_000, 60_000),
        ("coat", "coat", 11_600, 11_600),
    ],
)
def test_importers_when_given_the_published_samples_then_every_row_is_an_impression(
    format: str, name: str, impressions: int, known: int
) -> None:
    folder = Path(os.environ.get("RECSYS_SHARED_DATA", Path(__file__).parents[2].parent / "shared" / "data")) / name
    if not folder.exists():
        pytest.skip(f"{folder} is absent; set RECSYS_SHARED_DATA to the folder of the shared data sets")
    shown = import_dataset(format, folder).impressions
    assert shown is not None
    assert shown.num_rows == impressions
    propensity = shown["propensity"] if "propensity" in shown.column_names else pa.chunked_array([[]], pa.float64())
    assert len(propensity) - propensity.null_count == known
