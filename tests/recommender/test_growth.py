"""A bundle that grows at run time: what was there ranks as before, what is new ranks beside what it is like."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys.contracts import History, Request
from recsys.core.errors import DataError
from recsys.recommender.bundle import Bundle, load_bundle
from recsys.recommender.growth import _strongest, widened


@pytest.fixture(scope="module")
def bundle(run: Path) -> Bundle:
    return load_bundle(run / "bundle")


@pytest.fixture(scope="module")
def twins(run: Path) -> pa.Table:
    """The first five items again, under ids of their own."""
    items = pq.read_table(run / "bundle" / "items.parquet").slice(0, 5)
    place = items.column_names.index("item_id")
    return items.set_column(place, "item_id", pa.array([90_000 + row for row in range(5)]))


def ranked(bundle: Bundle, history: list[int]) -> tuple[list[int], list[float]]:
    """Return all rows of a bundle by rank, seen ones too, and their scores."""
    size = len(bundle.catalogue.item_ids)
    asked = History(items=np.array(history, np.int64), timestamps=np.arange(len(history)) + 1)
    everything = np.ones(size, np.bool_)
    # what paths reach may change with the catalogue; how evidence ranks items may not
    request = Request(history=asked, n=size, eligible_N=everything, keep_seen=True, whole_catalogue=True)
    (slate,) = bundle.ranker.recommend([request])
    return slate.items.tolist(), slate.scores.tolist()


@pytest.mark.parametrize("history", [[], [7], [3, 20, 40, 11]])
def test_with_items_when_items_are_added_then_the_others_keep_their_order(
    bundle: Bundle, twins: pa.Table, history: list[int]
) -> None:
    old = len(bundle.catalogue.item_ids)
    grown = bundle.with_items(twins)
    before, _ = ranked(bundle, history)
    after, scores = ranked(grown, history)
    assert len(bundle.catalogue.item_ids) == old
    assert sorted(after) == list(range(old + 5))
    assert [row for row in after if row < old] == before
    assert np.isfinite(scores).all()


def test_with_items_when_twins_are_added_then_stand_nearer_to_their_sources_than_chance(
    bundle: Bundle, twins: pa.Table
) -> None:
    old = len(bundle.catalogue.item_ids)
    grown = bundle.with_items(twins)
    vectors_ND = torch.nn.functional.normalize(grown.generative.scorer.vectors_ND, dim=-1).numpy()
    likeness_IN = vectors_ND[old:] @ vectors_ND[:old].T
    own_I = likeness_IN[np.arange(5), np.arange(5)]
    # By chance a source would stand in the middle of 120 items; four of five are among the first 12.
    rank_I = (likeness_IN > own_I[:, None]).sum(axis=1)
    assert (rank_I < 12).sum() >= 4


def test_with_items_when_an_item_is_there_already_then_refuses(bundle: Bundle, twins: pa.Table) -> None:
    with pytest.raises(DataError, match="catalogue"):
        bundle.with_items(twins.set_column(0, "item_id", pa.array(bundle.catalogue.item_ids[:5])))


def test_widened_when_likeness_is_known_then_weighs_id_vectors_by_it(bundle: Bundle) -> None:
    generator = bundle.generative.scorer.generator
    codes_NM = np.concatenate([generator.codes_NM, generator.codes_NM[:1]])
    likeness_IN = np.zeros((1, len(bundle.catalogue.item_ids)), np.float32)
    likeness_IN[0, [3, 8]] = [0.9, 0.3]
    wider = widened(generator, codes_NM, likeness_IN)
    old = generator.items.id_embedding.weight
    # 0.9 and 0.3 of 1.2: three quarters of the one, a quarter of the other.
    assert torch.allclose(wider.items.id_embedding.weight[-1], 0.75 * old[3] + 0.25 * old[8], atol=1e-6)
    assert torch.equal(wider.items.id_embedding.weight[:-1], old)
    assert wider.codes_NM[-1].tolist() == generator.codes_NM[0].tolist()
    if wider.head.members is not None:
        assert not any(network.items.weight[-1].any() for network in wider.head.members.networks)


def test_strongest_when_fewer_are_wanted_then_keeps_the_largest() -> None:
    got = _strongest(np.array([[0.1, 0.9, 0.5], [0.7, 0.2, 0.3]], np.float32), 2)
    np.testing.assert_allclose(got, [[0.0, 0.9, 0.5], [0.7, 0.0, 0.3]])
