"""Recommending from a run for one history in this process; for many users see :mod:`pipelines.batch`."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.show import console, slate_json, slate_table
from recsys.codes.catalogue import Catalogue
from recsys.contracts import Recommender, Request
from recsys.core.errors import CallError
from recsys.core.telemetry import LOG
from recsys.data.vocabulary import some_ids
from recsys.recommender.bundle import Bundle, load_bundle

BY = ("served", "paths", "catalogue", "head")
"""Which recommenders may rank, see :func:`recommend_one`."""


def recommend_one(
    run: Path, text: str, *, n: int, explain: bool, moment: int | None = None, by: str = "served"
) -> dict[str, Any]:
    """Print and return recommendations for a history like ``id,id@1700000000``.

    Args:
        run: the run folder.
        text: ids separated by commas, oldest first, each with its unix seconds behind an ``@`` where they are known.
        n: the wanted length of the slate.
        explain: whether the result says the paths.
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
    console().print(slate_table(slate, catalogue, item_titles(run)))
    items = slate_json(slate, catalogue, explain=explain)
    return {"model_version": bundle.model_version, "items": items, "unknown_items": list(given.unknown)}


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
