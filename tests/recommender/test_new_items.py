"""Tests of items that arrive after training: codes, categories, ids, and drift."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.codes.catalogue import Catalogue
from recsys.codes.layout import CodeLayout
from recsys.core.errors import ArtifactError, DataError
from recsys.data.prepare import PrepareConfig, prepare
from recsys.data.synthetic import SyntheticConfig, make_synthetic
from recsys.features.assemble import FeatureBuilder, FeatureConfig
from recsys.features.categories import item_categories, named_categories
from recsys.features.item_vectors import Features
from recsys.recommender.drift import OVERALL, DriftConfig, measure_drift
from recsys.recommender.new_items import NewItemsConfig, _vote, add_items

TRAINED, NEW = 300, 80
CODES = 16


class PlainTokenizer:
    """Two codebooks: the nearest of 16 anchors, and the nearest of 16 corrections; a free path is found by counting."""

    def __init__(self, vectors_NF):
        rng = np.random.default_rng(0)
        self.anchors_KF = vectors_NF[rng.choice(len(vectors_NF), CODES, replace=False)]
        rest_NF = vectors_NF - self.anchors_KF[self._nearest(vectors_NF, self.anchors_KF)]
        self.corrections_KF = rest_NF[rng.choice(len(rest_NF), CODES, replace=False)]

    @staticmethod
    def _nearest(vectors_NF, words_KF):
        return ((vectors_NF[:, None] - words_KF) ** 2).sum(-1).argmin(1)

    def encode(self, vectors_NF, *, taken_NM=None, resolve=None):
        anchor_N = self._nearest(vectors_NF, self.anchors_KF)
        correction_N = self._nearest(vectors_NF - self.anchors_KF[anchor_N], self.corrections_KF)
        codes_NM = np.stack([anchor_N, correction_N], 1).astype(np.int64)
        if resolve is False:
            return codes_NM
        taken = set() if taken_NM is None else set(map(tuple, taken_NM.tolist()))
        for row, codes in enumerate(map(tuple, codes_NM.tolist())):
            paths = ((codes[0] + step // CODES) % CODES * CODES + (codes[1] + step) % CODES for step in range(CODES**2))
            free = next((divmod(p, CODES) for p in paths if divmod(p, CODES) not in taken), codes)
            taken.add(free)
            codes_NM[row] = free
        return codes_NM

    def reconstruct(self, vectors_NF, codes_NM):  # noqa: ARG002
        return (self.anchors_KF[codes_NM[:, 0]] + self.corrections_KF[codes_NM[:, 1]]).astype(np.float32)


@pytest.fixture(scope="module")
def shop():
    """300 used items and 80 unused of the same kind, as (builder, tokenizer, catalogue, new items, category names)."""
    items = make_synthetic(SyntheticConfig(users=1, items=TRAINED + NEW, max_events=20)).items
    items = items.drop_columns([name for name in ("text",) if name in items.column_names])
    walked = make_synthetic(SyntheticConfig(users=150, items=TRAINED))
    log = prepare(walked, PrepareConfig()).log
    old, new = items.slice(0, TRAINED), items.slice(TRAINED)
    config = FeatureConfig(width=24, text={"width": 24}, behavioural={"width": 16})
    builder = FeatureBuilder.fit(old, log, config, 1)
    tokenizer = PlainTokenizer(builder.features.vectors_NF)
    category_N, names = item_categories(old, builder.features.vectors_NF, seed=0)
    # nearest codes: like items share a path, which leaves free ones among the 256 for the new
    codes_NM = tokenizer.encode(builder.features.vectors_NF, resolve=False)
    catalogue = Catalogue(
        item_ids=old["item_id"].to_pylist(),
        codes_NM=codes_NM,
        category_N=category_N,
        num_categories=len(names),
        category_names=tuple(names),
        layout=CodeLayout(num_codebooks=2, codebook_size=CODES),
        facets={(0, 1): "garden", (1, 3): "red"},
    )
    return builder, tokenizer, catalogue, new, names


def add(shop, items, **more):
    builder, tokenizer, catalogue, _, _ = shop
    return add_items(items, builder=builder, tokenizer=tokenizer, catalogue=catalogue, **more)


def test_add_items_when_of_the_same_kind_then_similar_and_the_old_catalogue_is_byte_equal(shop):
    _, _, old, new, _ = shop
    got = add(shop, new)
    grown = got.catalogue
    assert grown.codes_NM[:TRAINED].tobytes() == old.codes_NM.tobytes()
    assert grown.category_N[:TRAINED].tobytes() == old.category_N.tobytes()
    assert list(grown.item_ids) == list(old.item_ids) + new["item_id"].to_pylist()
    assert (grown.facets, grown.layout, grown.num_categories) == (old.facets, old.layout, old.num_categories)
    assert got.vectors_IF.shape == (NEW, 24)
    assert got.drift.verdict == "similar", got.drift.sentence
    assert got.drift.items == NEW
    # nobody has used a new item, and the training items were compared as if nobody had used them either
    assert got.drift.shifts["behavioural"].missing == got.drift.shifts["behavioural"].missing_before == 1.0
    assert got.drift.shifts["behavioural"].mean_shift is None


def test_add_items_when_added_then_codes_are_distinct_from_all_taken_paths(shop):
    _, _, old, new, _ = shop
    codes = [tuple(row) for row in add(shop, new).catalogue.codes_NM.tolist()]
    fresh, taken = codes[TRAINED:], set(map(tuple, old.codes_NM.tolist()))
    assert len(set(fresh)) == NEW
    assert not set(fresh) & taken
    assert add(shop, new).sharing == ()


def test_add_items_when_no_path_is_free_then_the_sharing_ids_are_reported(shop):
    builder, tokenizer, old, new, _ = shop

    class Crowded(PlainTokenizer):
        def encode(self, vectors_NF, *, taken_NM=None, resolve=None):  # noqa: ARG002
            return super().encode(vectors_NF, resolve=False)

    crowded = Crowded(builder.features.vectors_NF)
    got = add_items(new, builder=builder, tokenizer=crowded, catalogue=old)
    wanted_IM = tokenizer.encode(builder.transform(new), resolve=False)
    counts = Counter(map(tuple, [*old.codes_NM.tolist(), *wanted_IM.tolist()]))
    ids = new["item_id"].to_pylist()
    assert got.sharing == tuple(ids[row] for row, codes in enumerate(wanted_IM.tolist()) if counts[tuple(codes)] > 1)
    assert got.sharing


def test_add_items_when_shifted_then_drifting_and_the_sentence_says_what(shop):
    _, _, _, new, _ = shop
    strange = pa.table({"item_id": new["item_id"], "title": ["rustic oak garden"] * NEW})
    drift = add(shop, strange).drift
    assert drift.verdict == "drifting"
    assert "text vectors are" in drift.sentence
    assert "train again" in drift.sentence
    assert json.loads(json.dumps(drift.to_json()))["verdict"] == "drifting"


def test_add_items_when_there_are_none_then_the_catalogue_is_unchanged_and_similar(shop):
    _, _, old, new, _ = shop
    got = add(shop, new.slice(0, 0))
    assert got.catalogue.codes_NM.tobytes() == old.codes_NM.tobytes()
    assert got.catalogue.category_N.tobytes() == old.category_N.tobytes()
    assert got.vectors_IF.shape == (0, 24)
    assert got.drift.to_json() == {
        "items": 0,
        "verdict": "similar",
        "sentence": "There are no new items.",
        "shifts": {},
        "far_share": None,
        "ks": None,
        "ks_p": None,
    }


@pytest.mark.parametrize("row", [0, 17, 79])
def test_add_items_when_one_of_the_same_kind_then_similar(shop, row):
    got = add(shop, shop[3].slice(row, 1))
    assert len(got.catalogue.codes_NM) == TRAINED + 1
    assert got.drift.verdict == "similar", got.drift.sentence
    assert got.drift.sentence.startswith("The new item can")


def test_add_items_when_titles_are_missing_then_they_are_encoded_and_counted_missing(shop):
    _, _, _, new, _ = shop
    # every fourth item says nothing at all: 20 of 80
    rows = [
        {"item_id": row["item_id"], "title": row["title"] if at % 4 else None} for at, row in enumerate(new.to_pylist())
    ]
    got = add(shop, pa.Table.from_pylist(rows))
    assert np.isfinite(got.vectors_IF).all()
    assert got.drift.shifts["text"].missing == pytest.approx(20 / 80)
    assert len({tuple(row) for row in got.vectors_IF[::4].tolist()}) == 1
    assert len(set(map(tuple, got.catalogue.codes_NM[TRAINED:].tolist()))) == NEW
    got.catalogue.__post_init__()


def test_add_items_when_grown_twice_then_equals_the_first_half_and_stays_distinct(shop):
    builder, tokenizer, _, new, _ = shop
    first = add(shop, new.slice(0, 40)).catalogue
    second = add_items(new.slice(40), builder=builder, tokenizer=tokenizer, catalogue=first).catalogue
    assert second.codes_NM[: TRAINED + 40].tobytes() == first.codes_NM.tobytes()
    assert len(set(map(tuple, second.codes_NM[TRAINED:].tolist()))) == NEW


def test_add_items_when_saved_and_loaded_then_equal(shop, tmp_path):
    grown = add(shop, shop[3]).catalogue
    grown.save(tmp_path)
    loaded = Catalogue.load(tmp_path)
    np.testing.assert_array_equal(loaded.codes_NM, grown.codes_NM)
    assert list(loaded.item_ids) == list(grown.item_ids)


def test_add_items_when_an_id_is_twice_in_the_table_then_data_error_names_it(shop):
    new = shop[3]
    with pytest.raises(DataError, match=rf"ids must differ, got '{new['item_id'][3]}' more than once"):
        add(shop, pa.concat_tables([new, new.slice(3, 1)]))


def test_add_items_when_ids_are_in_the_catalogue_then_data_error_names_them_and_the_remedy(shop):
    # text ids are the same ids: 1 and "1" name one item
    with pytest.raises(DataError, match=r"got '1', '2'; leave these rows out .* if they changed train again"):
        add(shop, pa.table({"item_id": ["1", "2", "9001"], "title": ["a", "b", "c"]}))


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (pa.table({"title": ["x"]}), "column 'item_id' must be there"),
        (pa.table({"item_id": [None, 9001]}), "every item must have an id, got 1"),
        (pa.table({"item_id": ["B00X", "9001"]}), "must be whole numbers as in the catalogue, got 'B00X'"),
    ],
)
def test_add_items_when_ids_cannot_be_used_then_data_error(shop, items, message):
    with pytest.raises(DataError, match=message):
        add(shop, items)


def test_add_items_when_ids_are_numbers_written_as_text_then_they_become_numbers(shop):
    got = add(shop, pa.table({"item_id": ["9001", "9002"], "title": ["red", "blue"]}))
    assert got.catalogue.item_ids[TRAINED:] == [9001, 9002]


def test_add_items_when_artifacts_are_of_different_runs_then_artifact_error(shop):
    builder, tokenizer, old, new, _ = shop
    short = Catalogue(
        item_ids=old.item_ids[:5],
        codes_NM=old.codes_NM[:5],
        category_N=old.category_N[:5],
        num_categories=old.num_categories,
        layout=old.layout,
        facets={},
    )
    with pytest.raises(ArtifactError, match="must begin with the 300 items"):
        add_items(new, builder=builder, tokenizer=tokenizer, catalogue=short)


def test_add_items_when_categories_are_named_then_as_at_training_and_others_by_neighbours(shop):
    builder, tokenizer, old, new, names = shop
    wanted = named_categories(new, names)
    got = add(shop, new).catalogue.category_N[TRAINED:]
    assert (wanted >= 0).sum() > NEW / 2
    np.testing.assert_array_equal(got[wanted >= 0], wanted[wanted >= 0])
    nameless = (builder, tokenizer, replace(old, category_names=()), new, ())
    unnamed = add(nameless, new, config=NewItemsConfig(neighbours=1)).catalogue.category_N[TRAINED:]
    as_new_NF, vectors_IF = builder.as_new().vectors_NF, builder.transform(new)
    nearest_I = ((vectors_IF[:, None] - as_new_NF) ** 2).sum(-1).min(axis=1)
    chosen_I = [
        set(old.category_N[((vector - as_new_NF) ** 2).sum(-1) <= low + 1e-4])
        for vector, low in zip(vectors_IF, nearest_I, strict=True)
    ]
    assert all(category in chosen for category, chosen in zip(unnamed, chosen_I, strict=True))


def test_named_categories_when_a_leaf_is_unknown_then_the_parent_and_minus_one_without_any():
    items = pa.table({"categories": [["A", "x"], ["A", "new"], ["B"], None, ["other"]]})
    assert named_categories(items, ["A", "A > x", "other"]).tolist() == [1, 0, -1, -1, -1]
    assert named_categories(pa.table({"item_id": [1, 2]}), ["cluster 0"]).tolist() == [-1, -1]


def test_vote_when_three_neighbours_then_the_majority_and_the_nearest_among_equals():
    # distances from 0: 1, 2, 3, 9. three nearest of 0: categories 5, 7, 7 -> 7; two nearest: 5, 7 -> 5
    vectors_NF = np.array([[1.0], [2.0], [3.0], [9.0]], np.float32)
    category_N = np.array([5, 7, 7, 5])
    asked_IF = np.zeros((1, 1), np.float32)
    assert _vote(vectors_NF, category_N, asked_IF, 3).tolist() == [7]
    assert _vote(vectors_NF, category_N, asked_IF, 2).tolist() == [5]
    # four and more: 5, 7, 7, 5 -> 5 comes first
    assert _vote(vectors_NF, category_N, asked_IF, 9).tolist() == [5]


class Rounding:
    """A tokenizer that keeps whole numbers."""

    def encode(self, vectors_NF, *, taken_NM=None, resolve=None):  # noqa: ARG002
        return np.rint(vectors_NF).astype(np.int64)

    def reconstruct(self, vectors_NF, codes_NM):  # noqa: ARG002
        return codes_NM.astype(np.float32)


def features(vectors_NF):
    vectors_NF = np.asarray(vectors_NF, np.float32)
    return Features(vectors_NF=vectors_NF, blocks={"vector_x": vectors_NF})


def test_measure_drift_when_shifted_by_known_amounts_then_the_root_mean_square():
    # means 0, deviations 1 and 2; new means 3 and 4: shifts 3 and 2; root of (9 + 4) / 2
    before = features(np.tile([[1.0, 2.0], [-1.0, -2.0]], (50, 1)))
    shift = measure_drift(before, features([[2.0, 4.0], [4.0, 4.0]]), Rounding(), DriftConfig()).shifts[OVERALL]
    assert shift.mean_shift == pytest.approx(np.sqrt(6.5), rel=1e-5)
    # two draws of two mirrored points: a mean of -1, 0 or 1 deviations in both axes; 2 against 100 items add sqrt(1.02)
    assert shift.by_chance == pytest.approx(np.sqrt(1.02), rel=1e-5)


def test_measure_drift_when_new_items_are_coded_worse_then_far_share_and_ks_are_counted():
    rng = np.random.default_rng(0)
    before = features(rng.integers(-3, 4, (400, 3)) + rng.uniform(-0.1, 0.1, (400, 3)))
    whole = rng.integers(-3, 4, (40, 3))
    # 10 of 40 lie .4 from a whole number in every axis, beyond any training error (at most .1 an axis)
    worse = whole + np.where(np.arange(40)[:, None] < 10, 0.4, 0.0)
    drift = measure_drift(before, features(worse), Rounding(), DriftConfig(max_mean_shift=9))
    assert drift.far_share == pytest.approx(0.25)
    assert drift.verdict == "drifting"
    assert "25% are coded worse" in drift.sentence
    # the other 30 have no error at all, below every training error: the distance of the distributions is 30 / 40
    assert drift.ks == pytest.approx(0.75)


def test_measure_drift_when_only_a_constant_axis_rounds_then_not_taken_for_a_move():
    rng = np.random.default_rng(1)
    before_NF = np.concatenate([rng.normal(size=(500, 4)), np.full((500, 1), 0.3)], 1)
    new_NF = np.concatenate([rng.normal(size=(100, 4)), np.full((100, 1), 0.3 + 1e-6)], 1)
    assert measure_drift(features(before_NF), features(new_NF), Rounding(), DriftConfig()).verdict == "similar"


@pytest.mark.parametrize("count", [1, 2, 20, 400])
def test_measure_drift_when_from_the_same_distribution_then_seldom_drifting(count):
    # two shifts, a share and a KS at a significance of .01 each: at most 4 of 100 expected; 10 is out of reach
    def heavy_tailed(rows, seed):
        return features(np.random.default_rng(seed).standard_t(4, size=(rows, 6)) * np.arange(1, 7))

    before, config = heavy_tailed(400, 1000), DriftConfig(max_mean_shift=0.01, max_far_share=0.01, max_ks=0.01)
    verdicts = [measure_drift(before, heavy_tailed(count, seed), Rounding(), config).verdict for seed in range(100)]
    assert verdicts.count("drifting") <= 10
    shifted = [features(heavy_tailed(count, seed).vectors_NF + 40) for seed in range(5)]
    assert all(measure_drift(before, new, Rounding(), config).verdict == "drifting" for new in shifted)


@given(st.integers(1, 60), st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_measure_drift_when_any_new_items_then_ks_equals_the_plain_definition(count, seed):
    rng = np.random.default_rng(seed)
    before_NF, new_NF = rng.normal(size=(50, 2)), rng.normal(size=(count, 2)) * rng.uniform(0.5, 2)
    drift = measure_drift(features(before_NF), features(new_NF), Rounding(), DriftConfig())
    before, new = (((rows - np.rint(rows)) ** 2).sum(1) for rows in (before_NF, new_NF))
    plain = max(abs((before <= at).mean() - (new <= at).mean()) for at in [*before, *new])
    assert drift.ks == pytest.approx(plain, abs=0.021)
    assert (drift.verdict == "drifting") == drift.sentence.endswith("train again soon.")
