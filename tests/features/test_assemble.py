"""Tests of item texts, behavioural vectors, assembly and categories."""

import json
import sys
import types
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from recsys.core.errors import ArtifactError, ConfigError, DataError
from recsys.data.cooccurrence import cooccurrence
from recsys.data.events import EventLog
from recsys.data.prepare import PrepareConfig, prepare
from recsys.data.synthetic import SyntheticConfig, make_synthetic
from recsys.features import assemble
from recsys.features.assemble import FeatureBuilder, FeatureConfig
from recsys.features.behavioural import BehaviouralConfig, behavioural_vectors, positive_pmi
from recsys.features.categories import item_categories
from recsys.features.given import given_vectors
from recsys.features.impute import BehaviourImputer
from recsys.features.item_vectors import Features
from recsys.features.reduction import fit_projection, truncated_svd
from recsys.features.text import TextConfig, TextEncoder, item_texts


def log_of(histories, num_items):
    lengths = [len(history) for history in histories]
    flat = np.array([item for history in histories for item in history], np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return EventLog(offsets_U1=offsets, items_E=flat, timestamps_E=np.arange(len(flat)), num_items=num_items)


def shop(**extra):
    columns = {
        "item_id": [0, 1, 2, 3],
        "title": ["red nail polish", "blue nail polish", "hair shampoo", None],
        "categories": [["Makeup", "Nails"], ["Makeup", "Nails"], ["Hair"], None],
    }
    return pa.table(columns | extra)


def test_item_texts_when_text_is_null_then_title_brand_lists_and_year_are_joined():
    items = shop(
        brand=["OPI", None, "Dove", None],
        tags=[["cult"], [], None, None],
        year=[1995, None, 2001, None],
        text=[None, "given", None, ""],
    )
    assert item_texts(items) == [
        "red nail polish; OPI; Makeup Nails; cult; 1995",
        "given",
        "hair shampoo; Dove; Hair; 2001",
        "",
    ]


def test_text_encoder_when_fewer_terms_than_width_then_padded_unit_rows_and_zeros_for_empty():
    vectors_NF = TextEncoder.fit(["a red cat", "a red cat", "red dog", ""], TextConfig(width=16), 0)[1]
    assert vectors_NF.shape == (4, 16)
    np.testing.assert_allclose(np.linalg.norm(vectors_NF, axis=1), [1, 1, 1, 0], atol=1e-5)
    np.testing.assert_allclose(vectors_NF[0], vectors_NF[1], atol=1e-6)


def test_text_encoder_when_more_items_than_terms_then_an_empty_text_is_exactly_zero():
    texts = [f"{colour} {thing}" for colour in ("red", "blue", "green") for thing in ("cat", "dog", "cow")] * 4 + [None]
    vectors_NF = TextEncoder.fit([text or "" for text in texts], TextConfig(width=4), 0)[1]
    np.testing.assert_array_equal(vectors_NF[-1], 0)
    assert vectors_NF[:-1].any(axis=1).all()


@pytest.mark.parametrize("texts", [["", ""], ["one"], ["unique words", "other things"]])
def test_text_encoder_when_nothing_is_frequent_then_finite(texts):
    assert np.isfinite(TextEncoder.fit(texts, TextConfig(width=4), 0)[1]).all()


def test_text_encoder_when_sentence_transformers_is_missing_then_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigError, match=r"pip install '\.\[text\]'"):
        TextEncoder.fit(["x"], TextConfig(embedder="all-MiniLM-L6-v2"), 0)[1]


def test_cooccurrence_when_two_users_then_windows_stop_at_borders():
    # window 2: user one 0-1, 1-2, 0-2; user two 2-3; never 2-2 or 1-2 across the border
    counts = cooccurrence(log_of([[0, 1, 2], [2, 3]], 4), 2).toarray()
    np.testing.assert_array_equal(counts, [[0, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 1], [0, 0, 1, 0]])


@given(st.lists(st.lists(st.integers(0, 5), max_size=8), max_size=6), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_cooccurrence_when_any_log_then_equals_a_plain_count(histories, window):
    wanted = np.zeros((6, 6))
    for history in histories:
        for left in range(len(history)):
            for right in range(left + 1, min(left + window + 1, len(history))):
                if history[left] != history[right]:
                    wanted[history[left], history[right]] += 1
                    wanted[history[right], history[left]] += 1
    np.testing.assert_array_equal(cooccurrence(log_of(histories, 6), window).toarray(), wanted)


def test_positive_pmi_when_counts_are_known_then_equals_the_formula():
    # row sums 3, 1, 2; contexts 3^.75, 1, 2^.75; entry (1, 0): log(1 / (1 * 3^.75 / sum)) = log(sum / 3^.75)
    counts = csr_array(np.array([[0, 1, 2], [1, 0, 0], [2, 0, 0]], float))
    total = 3**0.75 + 1 + 2**0.75
    got = positive_pmi(counts).toarray()
    assert got[1, 0] == pytest.approx(np.log(total / 3**0.75), rel=1e-5)
    assert got[0, 1] == pytest.approx(np.log(1 / 3 * total), rel=1e-5)


def test_behavioural_vectors_when_item_unseen_then_zero_and_same_company_is_close():
    log = log_of([[0, 2], [1, 2], [0, 3], [1, 3], [4, 5], [4, 5]], 7)
    vectors = behavioural_vectors(log, BehaviouralConfig(width=4), 3)
    np.testing.assert_array_equal(vectors[6], 0)
    assert vectors[0] @ vectors[1] > 0.99 > 0.5 > vectors[0] @ vectors[4]
    np.testing.assert_array_equal(vectors, behavioural_vectors(log, BehaviouralConfig(width=4), 3))


def test_assemble_when_all_blocks_then_saved_and_loaded_equal(tmp_path: Path):
    given_vectors = pa.array([[3.0, 4.0], [1, 0], None, [0, 1]], pa.list_(pa.float32(), 2))
    log = log_of([[0, 1, 2], [1, 2]], 4)
    features = FeatureBuilder.fit(shop(vector_image=given_vectors), log, FeatureConfig(width=8), 1).features
    assert set(features.blocks) == {"text", "behavioural", "vector_image"}
    np.testing.assert_allclose(features.blocks["vector_image"], [[0.6, 0.8], [1, 0], [0, 0], [0, 1]], atol=1e-6)
    assert features.vectors_NF.shape == (4, 8)
    assert features.vectors_NF.dtype == np.float32
    features.save(tmp_path)
    loaded = Features.load(tmp_path)
    np.testing.assert_array_equal(loaded.vectors_NF, features.vectors_NF)
    np.testing.assert_array_equal(loaded.blocks["text"], features.blocks["text"])


def test_assemble_when_pca_is_wide_enough_then_distances_are_kept():
    log = log_of([[0, 1, 2], [1, 3, 2]], 4)
    raw = FeatureBuilder.fit(shop(), log, FeatureConfig(width=None, text_weight=2.0), 1).features.vectors_NF
    turned = FeatureBuilder.fit(shop(), log, FeatureConfig(width=256, text_weight=2.0), 1).features.vectors_NF
    np.testing.assert_allclose(
        np.linalg.norm(turned[:, None] - turned, axis=-1), np.linalg.norm(raw[:, None] - raw, axis=-1), atol=1e-4
    )


def test_assemble_when_given_vector_is_nan_then_data_error_names_column_and_row():
    items = shop(vector_x=pa.array([[1.0], [float("nan")], [1.0], [1.0]], pa.list_(pa.float32(), 1)))
    with pytest.raises(DataError, match=r"items\.vector_x must be finite, .* row 1"):
        FeatureBuilder.fit(items, log_of([[0, 1]], 4), FeatureConfig(), 0)


def test_assemble_when_no_block_is_left_then_config_error():
    with pytest.raises(ConfigError, match="at least one block"):
        FeatureBuilder.fit(shop(), log_of([], 4), FeatureConfig(use_text=False, use_behavioural=False), 0)


def test_item_categories_when_a_leaf_is_rare_then_the_parent_and_other_last():
    # 20 items, threshold min(50, 2) = 2: A > x has 9, A > y one (so A), B one (so other)
    lists = [["A", "x"]] * 9 + [["A", "y"]] + [["A"]] * 8 + [["B"], None]
    numbers, names = item_categories(pa.table({"categories": lists}), np.zeros((20, 2), np.float32), seed=0)
    assert names == ["A", "A > x", "other"]
    assert numbers.tolist() == [1] * 9 + [0] * 9 + [2, 2]


def test_item_categories_when_no_column_then_clusters_follow_the_vectors():
    vectors = np.repeat(np.eye(2, dtype=np.float32) * 5, 50, axis=0)
    numbers, names = item_categories(pa.table({"item_id": range(100)}), vectors, min_items=50, seed=0)
    assert names == ["cluster 0", "cluster 1"]
    assert len(set(numbers[:50])) == len(set(numbers[50:])) == 1
    assert numbers[0] != numbers[99]


ROOMS, COLOURS = ("kitchen", "garden", "office", "garage"), ("red", "blue", "green", "white")


def world(items=96, users=120):
    """Items of 4 rooms and 4 colours, users who stay in one room; the last 8 items have no event, some no image."""
    rng = np.random.default_rng(0)
    room_N, colour_N = np.arange(items) % 4, np.arange(items) // 4 % 4
    titles = [f"{ROOMS[r]} {COLOURS[c]} thing {n % 7}" for n, (r, c) in enumerate(zip(room_N, colour_N, strict=True))]
    titles[5] = None
    image_NF = np.eye(4)[room_N] + 0.1 * rng.normal(size=(items, 4))
    images = [None if n % 9 == 0 else row.tolist() for n, row in enumerate(image_NF)]
    table = pa.table(
        {"item_id": range(items), "title": titles, "vector_image": pa.array(images, pa.list_(pa.float32(), 4))}
    )
    used = np.arange(items - 8)
    histories = [rng.choice(used[used % 4 == user % 4], 10, replace=False).tolist() for user in range(users)]
    return table, log_of(histories, items)


def config_of(*, text=True, behavioural=True, given=True, impute=True, width=16):
    return FeatureConfig(
        text={"width": 12},
        behavioural={"width": 8},
        use_text=text,
        use_behavioural=behavioural,
        use_given=given,
        impute_behaviour=impute,
        width=width,
    )


COMBINATIONS = [on for on in product([True, False], repeat=3) if any(on)]


@pytest.mark.parametrize("impute", [True, False])
@pytest.mark.parametrize(("text", "behavioural", "given"), COMBINATIONS)
def test_transform_when_training_items_bring_their_behaviour_then_as_at_fit(
    text, behavioural, given, impute, tmp_path: Path
):
    items, log = world()
    config = config_of(text=text, behavioural=behavioural, given=given, impute=impute)
    builder = FeatureBuilder.fit(items, log, config, 5)
    builder.save(tmp_path)
    loaded = FeatureBuilder.load(tmp_path)
    behaviour = builder.features.blocks.get("behavioural")
    wanted_NF = builder.features.vectors_NF
    np.testing.assert_allclose(loaded.transform(items, behaviour=behaviour), wanted_NF, atol=2e-5)
    if behavioural and impute:
        assert not behaviour[-8:].any()
        np.testing.assert_allclose(loaded.transform(items)[-8:], wanted_NF[-8:], atol=2e-5)
    # one row alone is what it is among all
    alone = loaded.transform(items.slice(7, 1), behaviour=None if behaviour is None else behaviour[7:8])
    np.testing.assert_allclose(alone, wanted_NF[7:8], atol=2e-5)
    np.testing.assert_array_equal(loaded.features.vectors_NF, wanted_NF)
    assert loaded.names == builder.names == tuple(loaded.features.blocks)
    assert not list(tmp_path.glob("*.pkl"))


@pytest.mark.parametrize("width", [16, None])
@pytest.mark.parametrize(("text", "behavioural", "given"), COMBINATIONS)
@pytest.mark.parametrize("columns", [["item_id"], ["item_id", "title"], ["item_id", "vector_image"]])
def test_transform_when_blocks_are_missing_then_finite_and_of_the_fitted_width(
    text, behavioural, given, width, columns
):
    items, log = world()
    config = config_of(text=text, behavioural=behavioural, given=given, width=width)
    builder = FeatureBuilder.fit(items, log, config, 5)
    features = builder.encode(items.select(columns))
    assert features.vectors_NF.shape == builder.features.vectors_NF.shape
    assert np.isfinite(features.vectors_NF).all()
    missing = {"text": "title", "vector_image": "vector_image"}
    for name, block in features.blocks.items():
        assert block.any() == (missing.get(name) in columns)
    assert builder.transform(items.slice(0, 0)).shape == (0, features.vectors_NF.shape[1])


def test_assemble_when_nothing_is_imputed_then_blocks_are_joined_as_they_are():
    items, log = world()
    off = FeatureBuilder.fit(items, log, config_of(impute=False, width=None), 5).features
    np.testing.assert_array_equal(off.vectors_NF, np.concatenate(list(off.blocks.values()), axis=1))
    on = FeatureBuilder.fit(items, log, config_of(width=None), 5).features
    np.testing.assert_array_equal(on.vectors_NF[:-8], off.vectors_NF[:-8])
    assert on.vectors_NF[-8:, 12:20].any(axis=1).all()
    assert not off.vectors_NF[-8:, 12:20].any()
    # the blocks keep what was seen, so that a guess is never taken for a fact
    np.testing.assert_array_equal(on.blocks["behavioural"], off.blocks["behavioural"])


def test_impute_when_items_are_held_out_then_nearer_to_the_truth_than_zeros():
    items, log = world()
    blocks = {
        name: block[:-8] for name, block in FeatureBuilder.fit(items, log, config_of(), 5).features.blocks.items()
    }
    known, hidden = slice(0, 60), slice(60, None)
    imputer = BehaviourImputer.fit({name: block[known] for name, block in blocks.items()}, ridge=10.0)
    truth_NF = blocks["behavioural"][hidden]
    guess_NF = imputer.predict({name: block[hidden] for name, block in blocks.items()})
    far_N = ((guess_NF - truth_NF) ** 2).sum(1)
    # a unit row is at 1 from zero
    assert far_N.mean() < 0.5
    assert (far_N < 1).all()
    # also nearer than the one guess that looks at nothing
    assert far_N.mean() < ((blocks["behavioural"][known].mean(0) - truth_NF) ** 2).sum(1).mean()
    assert (np.linalg.norm(guess_NF, axis=1) <= 1 + 1e-6).all()


def test_impute_when_ridge_is_solved_by_hand_then_equal():
    # one feature x of mean 0 (rows 1, -1), y = 2x and -2x: slope x.y / (x.x + 1) = 4 / 3, which is cut to length 1
    x = np.array([[1.0], [-1.0], [0.0]], np.float32)
    y = np.array([[2.0], [-2.0], [0.0]], np.float32)
    imputer = BehaviourImputer.fit({"text": x, "behavioural": y}, ridge=1.0)
    assert imputer.coefficients_XF.item() == pytest.approx(4 / 3, rel=1e-5)
    guess = imputer.predict({"text": np.array([[0.5], [1.0], [0.0]], np.float32), "behavioural": y})
    np.testing.assert_allclose(guess, [[2 / 3], [1.0], [0.0]], atol=1e-6)


def test_impute_when_nothing_is_known_of_an_item_then_the_mean_behaviour():
    text = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 0.0]], np.float32)
    seen = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], np.float32)
    filled = BehaviourImputer.fit({"text": text, "behavioural": seen}, ridge=1.0).fill(
        {"text": text, "behavioural": seen}
    )
    np.testing.assert_array_equal(filled["behavioural"][:2], seen[:2])
    np.testing.assert_allclose(filled["behavioural"][2], [0.5, 0.5], atol=1e-6)
    alone = BehaviourImputer.fit({"behavioural": seen}, ridge=1.0).fill({"behavioural": seen})
    np.testing.assert_allclose(alone["behavioural"][2], [0.5, 0.5], atol=1e-6)


def test_impute_when_no_item_has_behaviour_then_nothing_is_guessed():
    items, _ = world()
    builder = FeatureBuilder.fit(items, log_of([], 96), config_of(width=None), 5)
    assert builder.imputer is None
    assert not builder.transform(items)[:, 12:20].any()


def test_as_new_when_items_have_behaviour_then_it_is_forgotten():
    items, log = world()
    builder = FeatureBuilder.fit(items, log, config_of(), 5)
    np.testing.assert_allclose(builder.as_new().vectors_NF, builder.transform(items), atol=2e-5)
    assert np.abs(builder.as_new().vectors_NF - builder.features.vectors_NF).max() > 0.01


@pytest.mark.parametrize("shape", [(8, 40), (40, 40), (200, 40)])
@pytest.mark.parametrize("width", [5, 64])
def test_fit_projection_when_applied_to_its_matrix_then_gives_the_scores_of_the_svd(shape, width):
    rng = np.random.default_rng(2)
    matrix_NT = csr_array(np.where(rng.random(shape) < 0.2, rng.random(shape), 0).astype(np.float32))
    scores_NF, axes_TF = fit_projection(matrix_NT, width, 3)
    left_NF, values_F = truncated_svd(matrix_NT, width, 3)
    np.testing.assert_array_equal(scores_NF, left_NF * values_F)
    np.testing.assert_allclose(matrix_NT @ axes_TF, scores_NF, atol=1e-5)


def test_text_encoder_when_texts_are_new_then_known_words_count_and_unknown_do_not():
    encoder, fitted_NF = TextEncoder.fit(
        ["red cat", "red cat", "red dog", "blue dog", "blue dog"], TextConfig(width=8), 0
    )
    new_NF = encoder.encode(["red cat", "zebra red cat", "zebra", ""])
    np.testing.assert_allclose(new_NF[:2], fitted_NF[[0, 0]], atol=1e-5)
    np.testing.assert_array_equal(new_NF[2:], 0)


@pytest.mark.parametrize("width", [3, 9])
def test_text_encoder_when_sentence_transformers_then_reduced_or_padded_as_at_fit(monkeypatch, width):
    class Letters:
        def __init__(self, name):
            assert name == "letters"

        def encode(self, texts):
            return np.array([[text.count(letter) for letter in "abcdef"] for text in texts], np.float32)

    monkeypatch.setitem(sys.modules, "sentence_transformers", types.SimpleNamespace(SentenceTransformer=Letters))
    texts = ["abc", "abd", "ffe", "fe", "bad", "face", "cab", ""]
    encoder, fitted_NF = TextEncoder.fit(texts, TextConfig(embedder="letters", width=width), 0)
    assert fitted_NF.shape == (8, width)
    np.testing.assert_allclose(encoder.encode(texts), fitted_NF, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(fitted_NF, axis=1), [1] * 7 + [0], atol=1e-5)


def test_transform_when_given_width_differs_then_data_error_and_new_columns_are_left_out():
    items, log = world()
    builder = FeatureBuilder.fit(items, log, config_of(), 5)
    narrow = pa.table({"item_id": [1], "vector_image": pa.array([[1.0, 0.0]], pa.list_(pa.float32(), 2))})
    with pytest.raises(DataError, match=r"items\.vector_image must hold vectors of width 4.* got widths \[2\]"):
        builder.transform(narrow)
    more = items.append_column("vector_sound", pa.array([[1.0]] * 96, pa.list_(pa.float32(), 1)))
    np.testing.assert_array_equal(builder.transform(more), builder.transform(items))


def test_given_vectors_when_null_then_zeros_and_absent_only_with_a_width():
    nulls = pa.table({"vector_x": pa.nulls(2, pa.list_(pa.float32(), 3))})
    np.testing.assert_array_equal(given_vectors(nulls, "vector_x", width=3), np.zeros((2, 3)))
    np.testing.assert_array_equal(given_vectors(pa.table({"a": [1, 2]}), "vector_x", width=3), np.zeros((2, 3)))
    with pytest.raises(DataError, match="vectors of one width"):
        given_vectors(nulls, "vector_x")


def test_transform_when_behaviour_has_another_shape_then_value_error():
    items, log = world()
    builder = FeatureBuilder.fit(items, log, config_of(), 5)
    with pytest.raises(ValueError, match=r"behaviour must be \(96, 8\), got \(96, 3\)"):
        builder.transform(items, behaviour=np.zeros((96, 3), np.float32))


def test_load_when_format_differs_or_a_file_is_missing_then_artifact_error(tmp_path: Path):
    items, log = world()
    FeatureBuilder.fit(items, log, config_of(), 5).save(tmp_path)
    settings = json.loads((tmp_path / "builder.json").read_text())
    (tmp_path / "builder.json").write_text(json.dumps(settings | {"format": 0}))
    with pytest.raises(ArtifactError, match="must have format 1, got 0"):
        FeatureBuilder.load(tmp_path)
    (tmp_path / "builder.json").unlink()
    with pytest.raises(ArtifactError, match=r"builder\.json must exist"):
        FeatureBuilder.load(tmp_path)


def test_load_when_a_run_was_trained_then_its_items_are_transformed_as_at_fit(run: Path):
    builder = FeatureBuilder.load(run / "features")
    items = pq.read_table(run / "data" / "items.parquet")
    got_NF = builder.transform(items, behaviour=builder.features.blocks["behavioural"])
    np.testing.assert_allclose(got_NF, Features.load(run / "features").vectors_NF, atol=1e-4)


def test_extended_when_items_come_later_then_their_vectors_follow_and_nothing_fitted_changes(tmp_path):
    items, more = shop(), shop(title=["green nail polish", "hair dryer", None, "x"])
    config = FeatureConfig(width=3, text={"width": 3}, behavioural={"width": 2})
    builder = FeatureBuilder.fit(items, log_of([[0, 1, 2], [0, 1], [2, 1]], 4), config, 0)
    longer = builder.extended(more)
    assert (len(longer.features.vectors_NF), longer.fitted) == (8, 4)
    np.testing.assert_array_equal(longer.features.vectors_NF[:4], builder.features.vectors_NF)
    np.testing.assert_array_equal(longer.features.vectors_NF[4:], builder.encode(more).vectors_NF)
    np.testing.assert_array_equal(longer.as_new().vectors_NF, builder.as_new().vectors_NF)
    longer.save(tmp_path)
    loaded = FeatureBuilder.load(tmp_path)
    assert loaded.fitted == 4
    np.testing.assert_array_equal(loaded.features.vectors_NF, longer.features.vectors_NF)
    np.testing.assert_array_equal(loaded.encode(more).vectors_NF, longer.encode(more).vectors_NF)
    assert len(longer.extended(more.slice(0, 0)).features.vectors_NF) == 8


def test_fit_when_the_catalogue_is_larger_than_what_is_read_then_all_items_get_vectors_of_one_transform(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(assemble, "_PIECE", 17)
    data = make_synthetic(SyntheticConfig(users=60, items=90, min_events=5, max_events=9, seed=3))
    prepared = prepare(data, PrepareConfig())
    config = FeatureConfig(width=8, fit_items=60)
    built = FeatureBuilder.fit(prepared.items, prepared.log, config, seed=1)
    assert built.fitted == len(built.features.vectors_NF) == 90
    # the vectors are those that the saved transform gives the same items, text and behaviour as they were
    again = built.encode(prepared.items, behaviour=built.features.blocks["behavioural"])
    np.testing.assert_allclose(again.vectors_NF, built.features.vectors_NF, atol=1e-5)
    assert np.linalg.matrix_rank(built.features.vectors_NF) == 8
