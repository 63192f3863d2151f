"""Tests of the words of codes."""

import numpy as np
import pyarrow as pa
import pytest

from recsys.tokenizer.facets import facets


def items_and_codes():
    """Code 0 of book 0: nail polish of OPI; code 1: shampoo of mixed brands. Book 1 mixes everything."""
    items = pa.table(
        {
            "title": ["OPI glitter lacquer 15"] * 10 + ["the soothing shampoo 300"] * 10,
            "brand": ["OPI"] * 10 + [f"Brand {chr(97 + index)}" for index in range(10)],
            "categories": [["Beauty", "Nail Polish"]] * 10 + [["Beauty", "Hair Care"]] * 10,
        }
    )
    codes_NM = np.stack([np.repeat([0, 1], 10), np.zeros(20, np.int64)], axis=1)
    return items, codes_NM


def test_facets_when_codes_split_the_shop_then_contrastive_terms_lead():
    items, codes_NM = items_and_codes()
    words = facets(codes_NM, items, 4)
    assert words[0, 0].split(" · ")[:2] == ["Nail Polish", "OPI"]
    assert words[0, 1].startswith("Hair Care · ")
    assert "Beauty" not in words[0, 0]
    assert set(words) == {(0, 0), (0, 1), (1, 0)}


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
