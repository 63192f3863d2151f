"""The sections about the tokenizer: its quality, and what its codes say in words.

Axes: N item, M codebook.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from markupsafe import Markup

from pipelines.report import plots
from pipelines.report.run_files import read
from recsys.codes.catalogue import Catalogue
from recsys.core.artifacts import require
from recsys.core.seeds import rng_for
from recsys.tokenizer.facets import SEPARATOR, coverage
from recsys.tokenizer.quality import information

_FACETS_SHOWN = 3
_TITLES_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class TokenizerSection:
    """The tokenizer's quality as ``quality.json`` holds it, figures beside it, and plots by codebook."""

    quality: Mapping[str, Any]
    mutual_mean: float
    """Adjusted mutual information of two codebooks, the mean over all pairs."""
    mutual_max: float
    agreement: Sequence[float]
    """Adjusted mutual information of each codebook with the categories."""
    size: int
    """Codes of a codebook."""
    plots: Sequence[Markup]
    heatmap: Markup


def tokenizer(run: Path) -> TokenizerSection:
    """Return the tokenizer's quality; figures that an older run did not keep are measured from its codes."""
    quality = read(run, "tokenizer/quality.json")
    books = quality["codebooks"]
    catalogue = Catalogue.load(run / "catalog")
    mutual = quality.get("mutual_information")
    if mutual is None:
        matrix_MM = information(catalogue.codes_NM, catalogue.codes_NM, seed=0)
        pairs_X = matrix_MM[np.triu_indices(len(matrix_MM), 1)]
        mutual = {"mean": float(pairs_X.mean()), "max": float(pairs_X.max())} if len(pairs_X) else {"mean": 0, "max": 0}
    else:
        matrix_MM = np.array(mutual["matrix"])
    agreement = quality.get("category_agreement")
    if agreement is None:
        agreement = information(catalogue.codes_NM, catalogue.category_N[:, None], seed=0)[:, 0].tolist()
    size = min(catalogue.layout.codebook_size, quality["items"])
    return TokenizerSection(
        quality=quality,
        mutual_mean=mutual["mean"],
        mutual_max=mutual["max"],
        agreement=agreement,
        size=catalogue.layout.codebook_size,
        plots=[
            plots.bars([book["use"] for book in books], "share of codes in use", most=1.0),
            plots.bars([book["perplexity"] for book in books], "perplexity", most=float(size)),
            plots.bars(agreement, "agreement with categories", most=1.0),
        ],
        heatmap=plots.heatmap(matrix_MM, "what codebooks say about each other"),
    )


@dataclass(frozen=True, kw_only=True)
class CodeSample:
    """One code: its words, the share of its items that they cover, how many items it has, and titles of some."""

    words: Sequence[str]
    coverage: float
    items: int
    titles: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class FacetsSection:
    """A sample of codes by codebook, how many codes there are, and the share whose words cover half of their items."""

    at_least_half: float
    codes: int
    books: Sequence[Sequence[CodeSample]]


def facet_sample(run: Path) -> FacetsSection:
    """Return, for each codebook, a few codes chosen by seed: their words, their coverage and titles of their items."""
    catalogue = Catalogue.load(run / "catalog")
    items = pq.read_table(require(run / "data" / "items.parquet", remedy=f"run `recsys train DATA --to {run}`"))
    fits = coverage(catalogue.codes_NM, items, catalogue.facets, catalogue.layout.codebook_size)
    titles = items["title" if "title" in items.column_names else "item_id"].to_pylist()
    rng = rng_for(0, "report", "facets")
    books = []
    for book, codes_N in enumerate(catalogue.codes_NM.T):
        named = [code for (owner, code) in sorted(catalogue.facets) if owner == book]
        rows = []
        for code in sorted(rng.choice(named, min(_FACETS_SHOWN, len(named)), replace=False)) if named else ():
            members = np.flatnonzero(codes_N == code)
            rows.append(
                CodeSample(
                    words=catalogue.facets[book, int(code)].split(SEPARATOR),
                    coverage=fits.shares.get((book, int(code)), 0.0),
                    items=len(members),
                    titles=[str(titles[int(item)] or "") for item in members[:_TITLES_SHOWN]],
                )
            )
        books.append(rows)
    return FacetsSection(at_least_half=fits.at_least_half, codes=len(fits.shares), books=books)
