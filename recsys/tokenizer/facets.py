"""Owns the words of a code: the terms that its items share and other items lack.

Axes: N item, T term, M codebook, K code.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from recsys.core.arrays import FloatArray, IntArray
from recsys.data.schema import BRAND, CATEGORIES, TEXT, TITLE

SEPARATOR = " · "
_MAX_TERMS = 3
_PRIOR = 5.0
_THIRD_COVERAGE = 0.3
_KIND_WEIGHTS = (1.0, 1.15, 1.3)
_WORD, _BRAND, _CATEGORY = 0, 1, 2
_WORDS = re.compile(r"[^\W\d_][\w'-]*[^\W_]")
_LISTS = (CATEGORIES, "genres", "tags")
_STOP = ENGLISH_STOP_WORDS | {
    "ounce",
    "ounces",
    "fluid",
    "pack",
    "count",
    "inch",
    "inches",
    "size",
    "piece",
    "pcs",
    "new",
}


@dataclass(frozen=True)
class _Terms:
    """Which item has which term, how a term is shown and of which kind it is."""

    has_NT: Any
    shown: list[str]
    kind_T: IntArray


def facets(codes_NM: IntArray, items: pa.Table, codebook_size: int) -> dict[tuple[int, int], str]:
    """Return up to three contrastive terms for every code in use, joined by a dot; codes without any word are absent.

    A term's score is its share of the code's items times its log-odds against all items, smoothed by a prior, so a
    term wins that most items of the code have and few others; whole category names count more than brands and words.

    Shape:
        codes_NM: (items, codebooks).
    """
    if len(codes_NM) != items.num_rows:
        raise ValueError(f"items must be the {len(codes_NM)} encoded ones, got {items.num_rows}; pass one row an item")
    terms = _terms(items)
    words: dict[tuple[int, int], str] = {}
    if not terms.shown:
        return words
    ones_N, items_N = np.ones(len(codes_NM)), np.arange(len(codes_NM))
    for book, codes_N in enumerate(codes_NM.T):
        member_KN = csr_array((ones_N, (codes_N, items_N)), shape=(codebook_size, len(codes_NM)))
        scores_KT, coverage_KT = _scores(member_KN, terms)
        for code in np.flatnonzero(np.diff(scores_KT.indptr)):
            row = slice(scores_KT.indptr[code], scores_KT.indptr[code + 1])
            chosen = _choose(scores_KT.indices[row], scores_KT.data[row], coverage_KT[row], terms)
            words[book, int(code)] = SEPARATOR.join(chosen)
    return words


def _scores(member_KN: Any, terms: _Terms) -> tuple[Any, FloatArray]:
    """Return the sparse scores of (code, term) and the coverage of each stored entry, in the same order."""
    counts_KT = csr_array(member_KN @ terms.has_NT)
    counts_KT.sort_indices()
    size_K = np.diff(member_KN.indptr)
    share_T = np.asarray(terms.has_NT.sum(axis=0)).ravel() / member_KN.shape[1]
    size_X = np.repeat(size_K, np.diff(counts_KT.indptr))
    share_X, count_X = share_T[counts_KT.indices], counts_KT.data
    inside_X = (count_X + _PRIOR * share_X) / (size_X + _PRIOR)
    tiny = 0.5 / (member_KN.shape[1] + 1)
    inside_X, share_X = np.clip(inside_X, tiny, 1 - tiny), np.clip(share_X, tiny, 1 - tiny)
    odds_X = np.log(inside_X / (1 - inside_X)) - np.log(share_X / (1 - share_X))
    coverage_X = count_X / size_X
    weight_X = np.array(_KIND_WEIGHTS)[terms.kind_T[counts_KT.indices]]
    counts_KT.data = coverage_X * odds_X * weight_X
    return counts_KT, coverage_X


def _choose(term_X: IntArray, score_X: FloatArray, coverage_X: FloatArray, terms: _Terms) -> list[str]:
    """Return the best terms of one code, leaving out words that a chosen term already says."""
    chosen: list[str] = []
    said: set[str] = set()
    for place in np.lexsort((term_X, -score_X)):
        shown = terms.shown[term_X[place]]
        stems = {word.rstrip("s") for word in shown.casefold().replace("-", " ").split()}
        if chosen and (score_X[place] <= 0 or stems <= said):
            continue
        if len(chosen) == _MAX_TERMS - 1 and coverage_X[place] < _THIRD_COVERAGE:
            continue
        chosen.append(shown)
        said |= stems
        if len(chosen) == _MAX_TERMS:
            break
    return chosen


def _terms(items: pa.Table) -> _Terms:
    number: dict[str, int] = {}
    shown: list[str] = []
    kinds: list[int] = []
    rows: list[int] = []
    columns: list[int] = []
    for row, found in enumerate(_item_terms(items)):
        for key, (kind, text) in found.items():
            term = number.setdefault(key, len(number))
            if term == len(shown):
                shown.append(text)
                kinds.append(kind)
            elif kind > kinds[term]:
                shown[term], kinds[term] = text, kind
            rows.append(row)
            columns.append(term)
    shape = (items.num_rows, len(shown))
    return _Terms(csr_array((np.ones(len(rows)), (rows, columns)), shape=shape), shown, np.array(kinds, np.int64))


def _item_terms(items: pa.Table) -> list[dict[str, tuple[int, str]]]:
    """Return each item's terms by their folded form, with kind and spelling; a later kind replaces an earlier one."""
    title = next((name for name in (TITLE, TEXT) if name in items.column_names), None)
    found: list[dict[str, tuple[int, str]]] = [{} for _ in range(items.num_rows)]
    if title is not None:
        for terms, text in zip(found, items[title].to_pylist(), strict=True):
            for word in _WORDS.findall((text or "").casefold()):
                if len(word) > 2 and word not in _STOP:
                    terms[word] = (_WORD, word)
    for name, kind in [(BRAND, _BRAND), *((name, _CATEGORY) for name in reversed(_LISTS))]:
        if name in items.column_names:
            for terms, value in zip(found, items[name].to_pylist(), strict=True):
                for text in _named(value):
                    terms[text.casefold()] = (kind, text)
    return found


def _named(value: Any) -> list[str]:
    """Return the names in a brand or a list, without blanks and bare numbers."""
    values = value if isinstance(value, list) else [value]
    texts = [str(text).strip() for text in values if text is not None]
    return [text for text in texts if any(letter.isalpha() for letter in text)]
