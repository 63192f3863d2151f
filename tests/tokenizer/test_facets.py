"""Tests of the words of codes."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.tokenizer import facets as facets_module
from recsys.tokenizer.facets import coverage, facets


def items_and_codes():
    """Code 0 of book 0: nail polish of OPI; code 1: shampoo of mixed brands; code 2: soap. Book 1 mixes everything."""
    items = pa.table(
        {
            "title": ["OPI glitter lacquer 15"] * 10 + ["the soothing shampoo 300"] * 10 + ["bar"] * 10,
            "brand": ["OPI"] * 10 + [f"Brand {chr(97 + index)}" for index in range(10)] + [None] * 10,
            "categories": [["Beauty", "Nail Polish"]] * 10 + [["Beauty", "Hair Care"]] * 10 + [["Beauty", "Soap"]] * 10,
        }
    )
    codes_NM = np.stack([np.repeat([0, 1, 2], 10), np.zeros(30, np.int64)], axis=1)
    return items, codes_NM


def test_facets_when_codes_split_the_shop_then_contrastive_terms_lead():
    items, codes_NM = items_and_codes()
    words = facets(codes_NM, items, 4)
    assert words[0, 0].split(" · ")[:2] == ["Nail Polish", "OPI"]
    assert words[0, 1].startswith("Hair Care · ")
    assert "Beauty" not in words[0, 0]
    assert set(words) == {(0, 0), (0, 1), (0, 2), (1, 0)}


def test_facets_when_words_are_stops_numbers_or_said_then_left_out():
    items, codes_NM = items_and_codes()
    parts = [part for text in facets(codes_NM, items, 4).values() for part in text.split(" · ")]
    assert not {"the", "15", "300", "opi"} & set(parts)


def test_facets_when_a_term_covers_one_item_in_ten_then_it_loses_to_the_common_one():
    items, codes_NM = items_and_codes()
    assert "Brand" not in facets(codes_NM, items, 4)[0, 1]


def test_facets_when_items_have_no_words_then_empty_and_null_safe():
    codes = np.zeros((2, 1), np.int64)
    assert facets(codes, pa.table({"item_id": [1, 2]}), 4) == {}
    table = pa.table({"title": pa.array([None, "lamp"]), "genres": pa.array([None, ["Light"]])})
    assert facets(codes, table, 4)[0, 0].split(" · ")[0] in {"Light", "lamp"}


def test_facets_when_rows_differ_then_value_error():
    with pytest.raises(ValueError, match="must be the 2 encoded ones, got 1"):
        facets(np.zeros((2, 1), np.int64), pa.table({"title": ["x"]}), 4)


def test_facets_when_two_words_stand_together_then_the_pair_is_said_once():
    items = pa.table({"title": ["argan oil, 8 oz"] * 6 + ["green tea soap"] * 20})
    codes_NM = np.repeat([0, 1], [6, 20])[:, None]
    words = facets(codes_NM, items, 2)
    assert words[0, 0] == "argan oil"
    # "oil, 8": a comma ends a phrase, so no pair crosses it
    assert "oil 8" not in words[0, 0]


def test_facets_when_one_word_leaves_items_out_then_the_next_covers_them():
    # code 0: five lamps and five chairs; each word alone covers half of them, both together all
    items = pa.table({"categories": [["Lamps"]] * 5 + [["Chairs"]] * 5 + [["Rugs"]] * 30})
    codes_NM = np.repeat([0, 1], [10, 30])[:, None]
    assert set(facets(codes_NM, items, 2)[0, 0].split(" · ")) == {"Lamps", "Chairs"}


def test_facets_when_a_name_is_on_half_of_all_items_then_it_is_none():
    items = pa.table({"categories": [["Shop", "Lamps"]] * 10 + [["Shop", "Rugs"]] * 10 + [["Books"]] * 5})
    codes_NM = np.repeat([0, 1, 2], [10, 10, 5])[:, None]
    assert facets(codes_NM, items, 3) == {(0, 0): "Lamps", (0, 1): "Rugs", (0, 2): "Books"}


def test_facets_when_a_brand_says_there_is_none_then_left_out():
    items = pa.table({"brand": ["Unknown"] * 4 + ["Ahava"] * 8, "title": ["clay mask"] * 4 + ["salt"] * 8})
    words = facets(np.repeat([0, 1], [4, 8])[:, None], items, 2)
    assert "Unknown" not in words[0, 0]
    assert words[0, 1].startswith("Ahava")


def test_facets_when_words_are_singular_and_plural_then_one_term():
    items = pa.table({"title": ["brush", "brushes", "Brush", "comb", "combs", "comb"]})
    codes_NM = np.array([0, 0, 0, 1, 1, 1])[:, None]
    words = facets(codes_NM, items, 2)
    assert coverage(codes_NM, items, words, 2).shares == {(0, 0): 1.0, (0, 1): 1.0}
    assert " · " not in words[0, 0]


def test_coverage_when_hand_words_then_hand_shares():
    items = pa.table({"title": ["red lamp", "blue lamp", "red rug", "plain rug", "chair"]})
    codes_NM = np.array([[0, 0], [0, 0], [0, 1], [1, 1], [1, 1]])
    words = {
        (0, 0): "lamp · red",  # items 0, 1, 2: lamp, lamp, red: 3 of 3
        (0, 1): "rug",  # items 3, 4: 1 of 2
        (1, 0): "red",  # items 0, 1: 1 of 2
        (1, 1): "lamp",  # items 2, 3, 4: none
    }
    found = coverage(codes_NM, items, words, 2)
    assert found.shares == {(0, 0): 1.0, (0, 1): 0.5, (1, 0): 0.5, (1, 1): 0.0}
    assert found.at_least_half == 0.75


def test_coverage_when_a_code_has_no_words_or_unknown_ones_then_zero():
    items = pa.table({"title": ["lamp", "rug"]})
    found = coverage(np.array([[0], [1]]), items, {(0, 0): "nowhere"}, 2)
    assert found.shares == {(0, 0): 0.0, (0, 1): 0.0}
    assert coverage(np.empty((0, 1), np.int64), items.slice(0, 0), {}, 2).at_least_half == 0.0


@settings(max_examples=40)
@given(st.integers(0, 2**31))
def test_coverage_when_against_a_slow_reading_of_the_titles_then_equal(seed: int):
    rng = np.random.default_rng(seed)
    vocabulary = ["lamp", "rug", "chair", "table", "vase", "mirror"]
    titles = [" ".join(rng.choice(vocabulary, rng.integers(1, 4), replace=False)) for _ in range(40)]
    items, codes_NM = pa.table({"title": titles}), rng.integers(0, 5, (40, 2))
    words = facets(codes_NM, items, 5)
    found = coverage(codes_NM, items, words, 5)
    for (book, code), share in found.shares.items():
        mine = [title for title, own in zip(titles, codes_NM[:, book], strict=True) if own == code]
        said = words[book, code].split(" · ")
        assert share == pytest.approx(np.mean([any(f" {term} " in f" {title} " for term in said) for title in mine]))


def test_facets_when_the_catalogue_is_large_then_words_come_from_evenly_spaced_items(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # items 0, 2 and 4 of five are read; 1 and 3, whose word is "kettle", are not
    monkeypatch.setattr(facets_module, "MOST_ITEMS", 3)
    items = pa.table({"item_id": range(5), "title": ["lamp", "kettle", "lamp", "kettle", "chair"]})
    assert facets(np.array([[0], [0], [0], [0], [1]]), items, 2) == {(0, 0): "lamp", (0, 1): "chair"}
