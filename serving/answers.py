"""The text of answers: from rows, codes and paths to what clients read."""

from collections.abc import Sequence

import numpy as np

from recsys.codes.words import path_words
from recsys.contracts import Path
from serving.compose import Composed
from serving.facets import FacetTable
from serving.plan import Plan, facets_met
from serving.release import Release
from serving.schemas.recommend import PathOut, PathStep, RankedItem

MAX_PRUNED = 20
"""How many pruned paths an explanation lists."""


def ranked_items(release: Release, composed: Composed, plan: Plan, *, explain: bool) -> list[RankedItem]:
    """Return the items of a slate as clients read them; fields that nobody asked for are not set."""
    ranked: list[RankedItem] = []
    items, facets = release.items, release.facets
    for place in composed.places:
        item = RankedItem(item_id=items.item_ids[place.row], title=items.titles[place.row], score=place.score)
        if explain:
            item.path = best_path(facets, place.paths)
        if plan.exploration is not None:
            item.propensity = place.propensity
        if plan.wanted_facets:
            item.meets = facets_met(plan, facets, place.row)
        if place.pinned_by is not None:
            item.pinned_by = place.pinned_by
        ranked.append(item)
    return ranked


def best_path(facets: FacetTable, paths: Sequence[Path]) -> PathOut | None:
    """Return the likeliest path in words, or None where there is none."""
    return path_out(facets, max(paths, key=lambda path: path.log_prob)) if paths else None


def pruned_paths(facets: FacetTable, paths: Sequence[Path]) -> list[PathOut]:
    """Return the first cut paths in words."""
    return [path_out(facets, path) for path in paths[:MAX_PRUNED]]


def path_out(facets: FacetTable, path: Path) -> PathOut:
    """Return a path in words."""
    steps = [
        PathStep(
            codebook=step.codebook,
            code=step.code,
            facet=facets.name(step.codebook, step.code),
            confidence=float(np.nan_to_num(step.confidence)),
        )
        for step in path.steps
    ]
    words = path_words(facets.words, path)
    return PathOut(steps=steps, words=words, pruned=path.pruned, reason=path.reason)
