"""Recommending from a run for one history in this process; for many users see :mod:`pipelines.batch`."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.show import console, slate_json, slate_table
from pipelines.stages.evaluate import token_recommenders
from recsys.codes.catalogue import Catalogue
from recsys.contracts import Recommender, Request
from recsys.core.errors import CallError
from recsys.core.telemetry import LOG
from recsys.data.vocabulary import some_ids
from recsys.recommender.bundle import Bundle, load_bundle
from recsys.recommender.token_ranker import PATHS_PROPOSE


def recommend_one(
    run: Path, text: str, *, n: int, explain: bool, moment: int | None = None, by: str = "head"
) -> dict[str, Any]:
    """Print and return recommendations for a history like ``id,id@1700000000``.

    Args:
        run: the run folder.
        text: ids separated by commas, oldest first, each with its unix seconds behind an ``@`` where they are known.
        n: the wanted length of the slate.
        explain: whether the result says the paths.
        moment: the unix second at which events without a time count; None is now.
        by: ``head`` ranks as the service does; ``paths`` ranks what token paths reach, and explains by those paths.

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
    recommender, catalogue = _ranking(run, bundle, by)
    slate = recommender.recommend([Request(history=given.history, n=n)])[0]
    console().print(slate_table(slate, catalogue, item_titles(run)))
    items = slate_json(slate, catalogue, explain=explain)
    return {"model_version": bundle.model_version, "items": items, "unknown_items": list(given.unknown)}


def _ranking(run: Path, bundle: Bundle, by: str) -> tuple[Recommender, Catalogue]:
    """Return who ranks, and the catalogue whose words say the paths.

    Raises:
        CallError: there is no such ranking, or the run has no token models.
    """
    if by == "head":
        return bundle.recommender, bundle.catalogue
    if by != "paths":
        raise CallError(f"--by must be head or paths, got {by!r}")
    rankings = token_recommenders(run / "tokens", run / "calibrated", trace=True)
    found = [one for one in rankings if one.name == PATHS_PROPOSE]
    if not found:
        raise CallError(f"--by paths needs a run with token models, got {run} without; train it with experts.trained")
    return found[0], Catalogue.load(run / "tokens" / "catalog")


def item_titles(run: Path) -> list[str]:
    """Return the titles of a run's items in catalogue order, their ids where there are none."""
    items = pq.read_table(run / "bundle" / "items.parquet")
    column = "title" if "title" in items.column_names else "item_id"
    ids = items["item_id"].to_pylist()
    return [str(title or item) for title, item in zip(items[column].to_pylist(), ids, strict=True)]
