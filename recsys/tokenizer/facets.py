"""Facets: the words that tell a code's items from all others, so that a path can be read.

Axes: N item, M codebook, T term.
"""

import numpy as np
import pyarrow as pa
from scipy import sparse
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer

from recsys.core.arrays import IntArray
from recsys.data.schema import BRAND, CATEGORIES, TITLE

TERMS_SHOWN = 2
"""Words per facet."""

_LISTS = (CATEGORIES, "genres", "tags")


def item_terms(items: pa.Table) -> list[list[str]]:
    """Return each item's terms: whole category names and brands, and single title words that are not stop words."""
    split = CountVectorizer(stop_words=list(ENGLISH_STOP_WORDS), token_pattern=r"(?u)\b[^\W\d_]{3,}\b").build_analyzer()
    terms: list[list[str]] = [[] for _ in range(items.num_rows)]
    for name in (*_LISTS, BRAND, TITLE):
        if name not in items.column_names:
            continue
        for row, value in zip(terms, items[name].to_pylist(), strict=True):
            if isinstance(value, list):
                row.extend(str(part).lower() for part in value)
            elif value is not None:
                row.extend(split(str(value)) if name == TITLE else [str(value).lower()])
    return [sorted(set(row)) for row in terms]


def facets(codes_NM: IntArray, items: pa.Table, codebook_size: int) -> dict[tuple[int, int], str]:
    """Return words per (codebook, code): terms frequent among the code's items and rare elsewhere.

    A term's score is its coverage of the code's items times the logarithm of its lift over the catalogue (with a
    prior), so a term that covers many of the items beats one that is merely exclusive.
    """
    vectorizer = CountVectorizer(analyzer=list, binary=True)
    terms = item_terms(items)
    if not any(terms):
        return {}
    table_NT = vectorizer.fit_transform(terms).tocsr()
    names = vectorizer.get_feature_names_out()
    base_T = (np.asarray(table_NT.sum(0)).reshape(-1) + 1.0) / (len(terms) + 2.0)
    found: dict[tuple[int, int], str] = {}
    for book in range(codes_NM.shape[1]):
        rows = np.arange(len(terms))
        member_KN = sparse.csr_array(
            (np.ones(len(terms)), (codes_NM[:, book], rows)), shape=(codebook_size, len(terms))
        )
        counts_KT = sparse.csr_array(member_KN @ table_NT)
        size_K = np.asarray(member_KN.sum(1)).reshape(-1)
        for code in np.flatnonzero(size_K):
            start, stop = counts_KT.indptr[code], counts_KT.indptr[code + 1]
            columns, counts = counts_KT.indices[start:stop], counts_KT.data[start:stop]
            coverage = counts / (size_K[code] + 2.0)
            score = coverage * np.log(np.maximum((coverage + 1e-9) / base_T[columns], 1e-9))
            best = np.lexsort((names[columns], -score))[:TERMS_SHOWN]
            if len(best):
                found[book, int(code)] = " · ".join(names[columns[best]])
    return found
