"""The catalogue: every item's codes and category, and the words for every code.

Axes: N item, M codebook.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.codes.layout import CodeLayout
from recsys.core.arrays import IntArray
from recsys.core.artifacts import require, write_json
from recsys.core.errors import ArtifactError

_CODES, _FACETS, _LAYOUT = "codes.parquet", "facets.parquet", "layout.json"
_REMEDY = "run the catalog stage again"


@dataclass(frozen=True, kw_only=True, eq=False)
class Catalogue:
    """All items as codes, in the order of their catalogue indices.

    Shape:
        codes_NM: (items, codebooks) int64, each below the layout's codebook size.
        category_N: (items,) int64.
    """

    item_ids: Sequence[int | str]
    codes_NM: IntArray
    category_N: IntArray
    num_categories: int
    layout: CodeLayout
    facets: dict[tuple[int, int], str]
    category_names: tuple[str, ...] = ()
    """One name a category, in the order of their numbers; none where they were never named."""

    def __post_init__(self) -> None:
        wanted = (len(self.item_ids), self.layout.num_codebooks)
        if self.codes_NM.shape != wanted or self.category_N.shape != wanted[:1]:
            raise ValueError(
                f"codes must be {wanted} and categories {wanted[:1]}, got {self.codes_NM.shape} and "
                f"{self.category_N.shape}; give one row for every item id"
            )
        if self.category_names and len(self.category_names) != self.num_categories:
            raise ValueError(
                f"category names must be {self.num_categories} or none, got {len(self.category_names)}; name them all"
            )
        if self.codes_NM.size and not 0 <= self.codes_NM.min() <= self.codes_NM.max() < self.layout.codebook_size:
            raise ValueError(
                f"codes must be from 0 to {self.layout.codebook_size - 1}, got {self.codes_NM.min()} to "
                f"{self.codes_NM.max()}; use the layout the codes were made with"
            )

    def save(self, folder: Path) -> None:
        """Write the catalogue into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        columns = {f"code_{book}": self.codes_NM[:, book].astype(np.int32) for book in range(self.codes_NM.shape[1])}
        ids = pa.array(self.item_ids) if len(self.item_ids) else pa.array([], pa.int64())
        pq.write_table(pa.table({"item_id": ids, **columns, "category": self.category_N}), folder / _CODES)
        keys = sorted(self.facets)
        facets = {
            "codebook": pa.array([book for book, _ in keys], pa.int32()),
            "code": pa.array([code for _, code in keys], pa.int32()),
            "words": pa.array([self.facets[key] for key in keys], pa.string()),
        }
        pq.write_table(pa.table(facets), folder / _FACETS)
        settings = {"num_categories": self.num_categories, "category_names": self.category_names}
        write_json(folder / _LAYOUT, {**self.layout.model_dump(), **settings})

    @classmethod
    def load(cls, folder: Path) -> "Catalogue":
        """Read a catalogue that :meth:`save` wrote."""
        settings = json.loads(require(folder / _LAYOUT, remedy=_REMEDY).read_text())
        num_categories, category_names = int(settings.pop("num_categories")), settings.pop("category_names", ())
        layout = CodeLayout(**settings)
        codes = pq.read_table(require(folder / _CODES, remedy=_REMEDY))
        names = [f"code_{book}" for book in range(layout.num_codebooks)]
        if codes.column_names != ["item_id", *names, "category"]:
            raise ArtifactError(
                f"{folder / _CODES} must have the columns item_id, {names[0]} to {names[-1]} and category, "
                f"got {codes.column_names}; {_REMEDY}"
            )
        facets = pq.read_table(require(folder / _FACETS, remedy=_REMEDY)).to_pydict()
        keys = zip(facets["codebook"], facets["code"], strict=True)
        return cls(
            item_ids=codes["item_id"].to_pylist(),
            codes_NM=np.stack([codes[name].to_numpy().astype(np.int64) for name in names], axis=1),
            category_N=codes["category"].to_numpy().astype(np.int64),
            num_categories=num_categories,
            layout=layout,
            facets=dict(zip(keys, facets["words"], strict=True)),
            category_names=tuple(category_names),
        )
