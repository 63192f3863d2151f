"""Tests of item texts, behavioural vectors, assembly and categories."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from recsys.core.errors import ConfigError, DataError
from recsys.data.events import EventLog
from recsys.features.assemble import FeatureConfig, Features, assemble
from recsys.features.behavioural import BehaviouralConfig, behavioural_vectors, cooccurrence, positive_pmi
from recsys.features.categories import item_categories
from recsys.features.text import TextConfig, embed_text, item_texts


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


def test_embed_text_when_fewer_terms_than_width_then_padded_unit_rows_and_zeros_for_empty():
    vectors_NF = embed_text(["a red cat", "a red cat", "red dog", ""], TextConfig(width=16), 0)
    assert vectors_NF.shape == (4, 16)
    np.testing.assert_allclose(np.linalg.norm(vectors_NF, axis=1), [1, 1, 1, 0], atol=1e-5)
    np.testing.assert_allclose(vectors_NF[0], vectors_NF[1], atol=1e-6)


@pytest.mark.parametrize("texts", [["", ""], ["one"], ["unique words", "other things"]])
def test_embed_text_when_nothing_is_frequent_then_finite(texts):
    assert np.isfinite(embed_text(texts, TextConfig(width=4), 0)).all()


def test_embed_text_when_sentence_transformers_is_missing_then_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigError, match=r"pip install recsys\[text\]"):
        embed_text(["x"], TextConfig(embedder="all-MiniLM-L6-v2"), 0)


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
    features = assemble(shop(vector_image=given_vectors), log, FeatureConfig(width=8), 1)
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
    raw = assemble(shop(), log, FeatureConfig(width=None, text_weight=2.0), 1).vectors_NF
    turned = assemble(shop(), log, FeatureConfig(width=256, text_weight=2.0), 1).vectors_NF
    np.testing.assert_allclose(
        np.linalg.norm(turned[:, None] - turned, axis=-1), np.linalg.norm(raw[:, None] - raw, axis=-1), atol=1e-4
    )


def test_assemble_when_given_vector_is_nan_then_data_error_names_column_and_row():
    items = shop(vector_x=pa.array([[1.0], [float("nan")], [1.0], [1.0]], pa.list_(pa.float32(), 1)))
    with pytest.raises(DataError, match=r"items\.vector_x must be finite, .* row 1"):
        assemble(items, log_of([[0, 1]], 4), FeatureConfig(), 0)


def test_assemble_when_no_block_is_left_then_config_error():
    with pytest.raises(ConfigError, match="at least one block"):
        assemble(shop(), log_of([], 4), FeatureConfig(use_text=False, use_behavioural=False), 0)


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
