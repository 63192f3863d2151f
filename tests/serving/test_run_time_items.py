"""Items put at run time: what a release has in common with the one before is not made again."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.filters import filter_mask
from serving.items import FOREVER
from serving.release import Release, load_release
from serving.releases import Releases
from serving.run_time_items import with_run_time_items
from serving.schemas.common import Condition, Filter
from serving.store.changes import StoredItem
from tests.support.small_shop import IDS, Fake, bundle_of, make_run, seal

SEEN = {"10": 50, "12": 70, "elsewhere": 90}


class Growth:
    """Loads bundles that give every new item the codes (8, 3), and counts how often they encode."""

    def __init__(self) -> None:
        self.encoded: list[list[str]] = []

    def load(self, folder: Path) -> Any:
        bundle = bundle_of(Fake(), folder)

        def with_items(items: pa.Table) -> Any:
            new = items["item_id"].to_pylist()
            self.encoded.append(new)
            codes_NM = np.concatenate([bundle.catalogue.codes_NM, np.tile([8, 3], (len(new), 1))])
            parts = vars(bundle.catalogue) | {"item_ids": [*bundle.catalogue.item_ids, *new], "codes_NM": codes_NM}
            return SimpleNamespace(**vars(bundle) | {"catalogue": SimpleNamespace(**parts)})

        bundle.with_items = with_items
        return bundle


@pytest.fixture(scope="module")
def growth() -> Growth:
    return Growth()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, growth: Growth) -> Release:
    return load_release(make_run(tmp_path_factory.mktemp("shop")) / "bundle", growth.load)


def off_sale(item_id: str, **body: Any) -> StoredItem:
    return StoredItem(item_id=item_id, body=body, available=False)


def test_items_when_an_item_only_goes_off_sale_then_shares_all_that_is_made_of_columns(base: Release) -> None:
    one = with_run_time_items(base, [off_sale("11")], SEEN)
    assert one.items.facts.available_N.tolist() == [True, False, True, True, True, True]
    assert one.items.facts.added_N.tolist() == [50, 0, 70, 0, 0, 0]
    assert base.items.facts.available_N.all()
    for name in ("item_ids", "titles", "categories", "popular_N", "columns", "_index", "_lower_titles", "_members"):
        assert getattr(one.items, name) is getattr(base.items, name)
    assert (one.facets, one.model) == (base.facets, base.model)


def test_items_when_the_same_was_put_before_then_its_columns_and_model_are_taken_over(
    base: Release, growth: Growth
) -> None:
    put = [StoredItem(item_id="10", body={"title": "Renamed"}), StoredItem(item_id="77", body={"title": "New"})]
    growth.encoded.clear()
    first = with_run_time_items(base, put, SEEN)
    second = with_run_time_items(base, [*put, off_sale("12")], SEEN, before=first)
    assert growth.encoded == [["77"]]
    assert second.items.columns is first.items.columns
    assert (second.model, second.facets) == (first.model, first.facets)
    assert second.items.facts.available_N.tolist() == [True, True, False, True, True, True, True]
    third = with_run_time_items(base, [StoredItem(item_id="10", body={"title": "Again"}), put[1]], SEEN, before=second)
    assert growth.encoded == [["77"]]  # the new item is the same: its codes are, too
    assert third.items.titles == ["Again", "Title 11", "Title 12", "Title 13", "Title 14", "Title 15", "New"]
    with_run_time_items(base, [put[0], StoredItem(item_id="77", body={"title": "Newer"})], SEEN, before=third)
    assert growth.encoded == [["77"], ["77"]]


def test_items_when_only_prices_change_then_titles_and_categories_are_shared_and_filters_read_the_new_prices(
    base: Release,
) -> None:
    dear = Condition(field="price", op=">", value=3)
    assert filter_mask(base.items, Filter(where=[dear])).tolist() == [False, False, False, True, False, True]
    assert base.items.values("brand") == ["A", "A", "B", "B", "C", None]
    one = with_run_time_items(base, [StoredItem(item_id="10", body={"price": 9.0, "colour": "red"})], {})
    assert filter_mask(one.items, Filter(where=[dear])).tolist() == [True, False, False, True, False, True]
    assert one.items.values("colour") == ["red", None, None, None, None, None]
    assert one.items.values("brand") is base.items.values("brand")
    assert one.items.titles is base.items.titles
    assert one.items.categories is base.items.categories


BODIES = st.fixed_dictionaries(
    {}, optional={"title": st.sampled_from(["A", "B"]), "price": st.sampled_from([1.5, 2.5]), "colour": st.just("red")}
)
PUTS = st.lists(
    st.builds(
        StoredItem,
        item_id=st.sampled_from([*IDS, "77", "78"]),
        body=BODIES,
        available=st.booleans(),
        starts_at=st.sampled_from([None, 5]),
        ends_at=st.sampled_from([None, 9]),
        added_at=st.just(3),
    ),
    max_size=5,
    unique_by=lambda item: item.item_id,
)


@settings(max_examples=60, deadline=None)
@given(rounds=st.lists(PUTS, min_size=1, max_size=4))
def test_items_when_items_change_again_and_again_then_equals_what_is_made_at_once(
    base: Release, rounds: Sequence[list[StoredItem]]
) -> None:
    before: Release | None = None
    for put in rounds:
        before = with_run_time_items(base, put, SEEN, before=before)
        slow = with_run_time_items(base, put, SEEN)
        # the order of new items may be that of the time before: rows mean nothing outside of a release
        assert set(before.items.item_ids) == set(slow.items.item_ids)
        assert before.items.item_ids[:6] == IDS
        for row, item_id in enumerate(before.items.item_ids):
            assert row_of(before, row) == row_of(slow, slow.items.index_of(item_id))
        assert before.items.popular_N.tolist()[:6] == slow.items.popular_N.tolist()[:6]


def row_of(release: Release, row: int | None) -> list[Any]:
    """Return all that a release says of one item."""
    assert row is not None
    items, facts = release.items, release.items.facts
    columns = sorted((name, items.columns[name][row].as_py()) for name in items.columns.column_names)
    dates = [facts.available_N[row], facts.starts_N[row], facts.ends_N[row], facts.added_N[row]]
    return [items.titles[row], items.categories[row], columns, *dates, release.facets.codes_NM[row].tolist()]


def test_showable_when_an_item_has_dates_then_only_between_them(base: Release) -> None:
    facts = with_run_time_items(
        base, [StoredItem(item_id="10", body={}, starts_at=5, ends_at=9), off_sale("11")], {}
    ).items.facts
    assert [facts.showable(now).tolist()[:3] for now in (4, 5, 8, 9)] == [
        [False, False, True],
        [True, False, True],
        [True, False, True],
        [False, False, True],
    ]
    assert facts.ends_N[1] == FOREVER


def test_activate_when_it_goes_back_then_new_items_are_not_encoded_again(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    make_run(run, ids=list(reversed(IDS)), bundle="releases/second")
    second, growth = seal(run / "releases" / "second"), Growth()
    releases = Releases(run, loader=growth.load, on_change=lambda _release: None)
    releases.start()
    assert releases.wait(10)
    first = releases.current.version
    releases.put_items((StoredItem(item_id="77", body={"title": "New"}),))
    kept = releases.current
    releases.activate(second)
    assert releases.current.items.item_ids == [*reversed(IDS), "77"]
    releases.activate(first)
    assert growth.encoded == [["77"], ["77"]]  # once for each release
    assert releases.current.model is kept.model
    assert releases.current.items.columns is kept.items.columns
