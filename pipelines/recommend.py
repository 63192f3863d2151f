"""Recommending from a run for one history in this process; for many users see :mod:`pipelines.batch`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.table import Table

from pipelines.show import slate_json, slate_table
from recsys.codes.catalogue import Catalogue
from recsys.contracts import Recommender, Request, Slate
from recsys.core.errors import CallError
from recsys.core.telemetry import LOG
from recsys.data.vocabulary import some_ids
from recsys.recommender.bundle import Bundle, load_bundle

BY = ("served", "paths", "catalogue", "head")
"""Which recommenders may rank, see :func:`recommend_one`."""


@dataclass(frozen=True, kw_only=True)
class Recommended:
    """A slate for one history, and the ids of the history that the catalogue lacks."""

    slate: Slate
    catalogue: Catalogue
    """The catalogue in the codes of the slate's paths."""
    titles: Sequence[str]
    model_version: str
    unknown: tuple[str, ...]

    def table(self) -> Table:
        """Return the slate as a table for a terminal."""
        return slate_table(self.slate, self.catalogue, self.titles)

    def to_json(self, *, explain: bool) -> dict[str, Any]:
        """Return the slate as ``recsys recommend --json`` writes it, with paths only where ``explain`` is set."""
        items = slate_json(self.slate, self.catalogue, explain=explain)
        return {"model_version": self.model_version, "items": items, "unknown_items": list(self.unknown)}


def recommend_one(run: Path, text: str, *, n: int, moment: int | None = None, by: str = "served") -> Recommended:
    """Return recommendations for a history like ``id,id@1700000000``.

    Args:
        run: the run folder.
        text: ids separated by commas, oldest first, each with its unix seconds behind an ``@`` where they are known.
        n: the wanted length of the slate.
        moment: the unix second at which events without a time count; None is now.
        by: ``served`` ranks as the service does; in a run with token models ``paths`` ranks what their paths reach by
            all evidence, ``catalogue`` all items by the same; ``head`` is the generator alone.

    Raises:
        CallError: the history names items and none of them is in the catalogue.
    """
    bundle = load_bundle(run / "bundle")
    given = bundle.vocabulary.history(bundle.vocabulary.parse_history(text), moment=moment)
    if given.unknown and not len(given.history.items):
        raise CallError(
            f"--history must name items of the catalogue, got none but unknown ones: {some_ids(given.unknown)}; "
            f"see data/items.parquet of the run"
        )
    if given.unknown:
        LOG.warning("--history: left out, for they are not in the catalogue: %s", some_ids(given.unknown))
    recommender, catalogue, whole = _ranking(run, bundle, by)
    slate = recommender.recommend([Request(history=given.history, n=n, whole_catalogue=whole)])[0]
    return Recommended(
        slate=slate,
        catalogue=catalogue,
        titles=item_titles(run),
        model_version=bundle.model_version,
        unknown=tuple(given.unknown),
    )


def _ranking(run: Path, bundle: Bundle, by: str) -> tuple[Recommender, Catalogue, bool | None]:
    """Return who ranks, the catalogue whose words say the paths, and whether all items are ranked.

    Raises:
        CallError: there is no such ranking, or the run has no token models.
    """
    if by not in BY:
        raise CallError(f"--by must be one of {', '.join(BY)}, got {by!r}")
    if by == "head":
        return bundle.generative, bundle.generative.catalogue, None
    if by != "served" and bundle.tokens is None:
        raise CallError(f"--by {by} needs a run with token models, got {run} without; train it with experts.trained")
    return bundle.recommender, bundle.catalogue, {"served": None, "paths": False, "catalogue": True}[by]


def item_titles(run: Path) -> list[str]:
    """Return the titles of a run's items in catalogue order, their ids where there are none."""
    items = pq.read_table(run / "bundle" / "items.parquet")
    column = "title" if "title" in items.column_names else "item_id"
    ids = items["item_id"].to_pylist()
    return [str(title or item) for title, item in zip(items[column].to_pylist(), ids, strict=True)]
