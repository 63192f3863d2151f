"""Preparing: k-core by hand, stable order, files there and back, the synthetic world."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from recsys.core.errors import ArtifactError, ConfigError, DataError
from recsys.data.prepare import PrepareConfig, core, load_prepared, prepare, save_prepared
from recsys.data.synthetic import SyntheticConfig, make_synthetic
from recsys.data.table import Dataset, build_dataset, read_dataset, write_dataset


def _dataset(rows: list[tuple[str, str, int]], items: list[str] | None = None, **more: list) -> Dataset:
    users, ids, times = zip(*rows, strict=True)
    table = pa.table({"user_id": users, "item_id": ids, "timestamp": times, **more})
    return build_dataset(table, None if items is None else pa.table({"item_id": items}), where="test")


def test_prepare_when_k_core_two_then_removes_in_rounds() -> None:
    # Round 1: item z has one event (c), item w one (b). Without (c, z) user c has one event left (c, x);
    # round 2 drops it; x still has a and b, y has a and b: the core is {a, b} x {x, y}.
    rows = [
        ("c", "x", 1),
        ("c", "z", 2),
        ("a", "x", 3),
        ("a", "y", 4),
        ("b", "y", 5),
        ("b", "x", 6),
        ("b", "w", 7),
    ]
    prepared = prepare(_dataset(rows, ["w", "y", "x", "z", "never"]), PrepareConfig(k_core=2))
    assert prepared.user_ids == ["a", "b"]
    assert prepared.items["item_id"].to_pylist() == ["y", "x"]
    assert prepared.log.items_E.tolist() == [1, 0, 0, 1]
    assert prepared.log.offsets_U1.tolist() == [0, 2, 4]
    assert (prepared.report["rows_outside_core"], prepared.report["items_outside_core"]) == (3, 3)


def test_prepare_when_no_k_core_then_keeps_items_without_events_in_file_order() -> None:
    prepared = prepare(_dataset([("a", "x", 1), ("a", "new", 2)], ["never", "x"]), PrepareConfig())
    assert prepared.items["item_id"].to_pylist() == ["never", "x", "new"]
    assert prepared.log.items_E.tolist() == [1, 2]
    assert prepared.log.num_items == 3
    assert prepared.report["items_without_events"] == 1


def test_prepare_when_times_are_equal_then_orders_by_position() -> None:
    dataset = _dataset([("a", "x", 5), ("a", "y", 5), ("a", "z", 1)], ["x", "y", "z"], position=[9, 2, 100])
    assert prepare(dataset, PrepareConfig()).log.items_E.tolist() == [2, 1, 0]


def test_prepare_when_times_are_equal_without_position_then_keeps_row_order() -> None:
    rows = [("a", f"i{n}", 5) for n in (4, 1, 3, 0, 2)]
    dataset = _dataset(rows, [f"i{n}" for n in range(5)])
    assert prepare(dataset, PrepareConfig()).log.items_E.tolist() == [4, 1, 3, 0, 2]


def test_prepare_when_min_rating_then_drops_lower_and_unrated() -> None:
    dataset = _dataset([("a", "x", 1), ("a", "y", 2), ("b", "z", 3)], rating=[4.0, None, 3.0])
    prepared = prepare(dataset, PrepareConfig(min_rating=4))
    assert prepared.user_ids == ["a"]
    assert prepared.log.items_E.tolist() == [0]
    assert prepared.report["rows_below_min_rating"] == 2


def test_prepare_when_events_are_limited_then_whole_users_are_drawn() -> None:
    rows = [(f"u{user}", f"i{place}", place) for user in range(30) for place in range(4)]
    prepared = prepare(_dataset(rows), PrepareConfig(max_events=10))
    # users have 4 events each: 3 users are the first so many that reach 10
    assert prepared.log.lengths_U.tolist() == [4, 4, 4]
    assert prepared.report["rows_not_drawn"] == 30 * 4 - 12
    assert prepared.user_ids != ["u0", "u1", "u2"]
    assert prepare(_dataset(rows), PrepareConfig(max_events=120)).log.num_users == 30


def test_prepare_when_nothing_is_left_then_says_what_to_lower() -> None:
    with pytest.raises(ConfigError, match="lower them"):
        prepare(_dataset([("a", "x", 1)]), PrepareConfig(k_core=2))
    with pytest.raises(ConfigError, match="without a 'rating' column"):
        prepare(_dataset([("a", "x", 1)]), PrepareConfig(min_rating=1))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40), st.integers(1, 4))
def test_core_when_any_graph_then_is_the_largest_core(pairs: list[tuple[int, int]], k: int) -> None:
    user_E, item_E = np.array(pairs).T
    kept_E = core(user_E, item_E, np.ones(len(pairs), dtype=np.bool_), k=k)
    left = set(range(len(pairs)))
    while True:  # peel one event at a time
        weak = [
            e
            for e in left
            if sum(user_E[o] == user_E[e] for o in left) < k or sum(item_E[o] == item_E[e] for o in left) < k
        ]
        if not weak:
            break
        left.discard(weak[0])
    assert set(np.flatnonzero(kept_E)) == left


def test_build_dataset_when_rows_repeat_then_position_and_event_type_tell_them_apart() -> None:
    rows = [("a", "x", 1)] * 3
    assert _dataset(rows).bad_rows.counts == {"duplicate": 2}
    assert _dataset(rows, position=[0, 1, 0]).bad_rows.counts == {"duplicate": 1}
    assert _dataset(rows, event_type=["view", "buy", "view"]).bad_rows.counts == {"duplicate": 1}


def test_build_dataset_when_id_types_differ_then_items_become_text() -> None:
    rows = pa.table({"user_id": [1], "item_id": [7], "timestamp": [1]})
    dataset = build_dataset(rows, pa.table({"item_id": ["7", "x"]}), where="test")
    assert dataset.interactions["item_id"].to_pylist() == ["7"]
    assert dataset.items["item_id"].to_pylist() == ["7", "x"]


def test_build_dataset_when_vectors_differ_in_length_then_names_the_column() -> None:
    rows = pa.table({"user_id": [1], "item_id": [7], "timestamp": [1]})
    items = {"item_id": [7, 8], "vector_image": [[1.0, 2.0], [3.0, 4.0]]}
    dataset = build_dataset(rows, pa.table(items), where="test")
    assert dataset.items.schema.field("vector_image").type == pa.list_(pa.float32(), 2)
    with pytest.raises(DataError, match="vector_image"):
        build_dataset(rows, pa.table(items | {"vector_image": [[1.0], [3.0, 4.0]]}), where="test")


def test_write_dataset_when_read_back_then_is_equal_with_its_counts(tmp_path: Path) -> None:
    dataset = _dataset([("a", "x", 1), ("a", "x", 1), ("b", "y", 2)], ["x"], weight=[0.5, 0.5, 2.0])
    write_dataset(dataset, tmp_path / "data")
    again = read_dataset(tmp_path / "data")
    assert again.interactions.to_pylist() == dataset.interactions.to_pylist()
    assert again.items.to_pylist() == dataset.items.to_pylist()
    assert again.bad_rows.counts == {"duplicate": 1}
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        "interactions.parquet",
        "items.parquet",
    ]


def test_read_dataset_when_file_is_no_parquet_then_names_file_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="recsys import"):
        read_dataset(tmp_path)
    (tmp_path / "interactions.parquet").write_bytes(b"user_id,item_id")
    with pytest.raises(DataError, match=r"interactions\.parquet must be a Parquet file"):
        read_dataset(tmp_path)


def test_save_prepared_when_loaded_then_is_equal(tmp_path: Path) -> None:
    prepared = prepare(make_synthetic(SyntheticConfig(users=20, items=50)), PrepareConfig(k_core=2))
    save_prepared(prepared, tmp_path)
    again = load_prepared(tmp_path)
    for name in ("offsets_U1", "items_E", "timestamps_E"):
        np.testing.assert_array_equal(getattr(again.log, name), getattr(prepared.log, name))
    assert again.log.num_items == prepared.log.num_items
    assert (again.user_ids, again.report) == (prepared.user_ids, prepared.report)
    assert again.items.equals(prepared.items)


def test_load_prepared_when_files_are_missing_or_do_not_fit_then_artifact_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        load_prepared(tmp_path)
    save_prepared(prepare(_dataset([("a", "x", 1), ("a", "y", 2)]), PrepareConfig()), tmp_path)
    other = tmp_path / "other"
    save_prepared(prepare(_dataset([("a", "x", 1)]), PrepareConfig()), other)
    (other / "items.parquet").replace(tmp_path / "items.parquet")
    with pytest.raises(ArtifactError, match="column 'item'"):
        load_prepared(tmp_path)


def test_make_synthetic_when_same_seed_then_equal_and_other_seed_differs() -> None:
    small = SyntheticConfig(users=10, items=60)
    first, second = make_synthetic(small), make_synthetic(small)
    assert first.interactions.equals(second.interactions)
    assert first.items.equals(second.items)
    other = make_synthetic(small.model_copy(update={"seed": 1}))
    assert not first.interactions.equals(other.interactions)


def test_make_synthetic_when_default_then_has_promised_shape() -> None:
    dataset = make_synthetic(SyntheticConfig())
    log = prepare(dataset, PrepareConfig()).log
    assert (log.num_users, log.num_items) == (400, 300)
    assert log.lengths_U.min() >= 15
    assert log.lengths_U.max() <= 40
    for user in range(log.num_users):
        items = log.history(user).items
        assert len(np.unique(items)) == len(items)
    item = dataset.items.to_pylist()[0]
    assert all(word in item["title"] for word in item["categories"])


def test_make_synthetic_when_sticky_then_neighbours_share_more_facets() -> None:
    def shared(stickiness: float) -> float:
        dataset = make_synthetic(SyntheticConfig(users=100, affinity=0, drift=0, stickiness=stickiness))
        log = prepare(dataset, PrepareConfig()).log
        facets_NF = np.array(dataset.items["categories"].to_pylist())
        pairs = [facets_NF[h.items[1:]] == facets_NF[h.items[:-1]] for h in map(log.history, range(100))]
        return float(np.concatenate(pairs).mean())

    # Without stickiness two items share a facet's value about once in 6.
    assert shared(0.0) == pytest.approx(1 / 6, abs=0.02)
    assert shared(3.0) > 0.3


def test_synthetic_config_when_events_exceed_items_then_is_refused() -> None:
    with pytest.raises(ValidationError, match="raise items"):
        SyntheticConfig(items=30)


def test_prepare_when_the_cut_is_global_then_later_events_bring_nobody_into_the_core() -> None:
    # Times 0 to 19, cuts at 15 and 17. Before 15 x has 8 events, y 6 and z 1, at time 5: the 2-core is without z,
    # though z has 3 later events. Of the later events those of x stay, also that of a user nobody knew.
    before = [("ab"[at % 2], "z" if at == 5 else "xy"[at // 2 % 2], at) for at in range(15)]
    after = [("a", "z", 15), ("b", "z", 16), ("a", "z", 17), ("new", "x", 18), ("b", "x", 19)]
    config = PrepareConfig(k_core=2, split="time")
    prepared = prepare(_dataset([*before, *after], ["x", "y", "z"]), config)
    assert prepared.log.cuts is not None
    assert (prepared.log.cuts.validation, prepared.log.cuts.test) == (15, 17)
    assert prepared.items["item_id"].to_pylist() == ["x", "y"]
    assert prepared.user_ids == ["a", "b", "new"]
    assert prepared.report["rows_outside_core"] == 4  # z at 5, 15, 16, 17
    assert sorted(prepared.log.timestamps_E[prepared.log.timestamps_E >= 15].tolist()) == [18, 19]
