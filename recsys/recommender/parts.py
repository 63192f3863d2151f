"""Our ranking taken apart, to say what each part is worth: evaluated like any other recommender."""

from collections.abc import Collection
from typing import Any

from recsys.core.errors import ConfigError
from recsys.recommender.reasoning import ReasoningRecommender

PATHS_ALONE = "recsys: paths alone"
PATHS_UNGUIDED = "recsys: paths alone, token heads only"
PATHS_PROPOSE = "recsys: paths propose, item head ranks"
HEAD_ALONE = "recsys: item head alone"
PARTS = (PATHS_ALONE, PATHS_UNGUIDED, PATHS_PROPOSE, HEAD_ALONE)


def dissected(ours: ReasoningRecommender, wanted: Collection[str] = PARTS) -> list[ReasoningRecommender]:
    """Return the wanted parts of a recommender, each under a name of its own and without paths beside its items.

    Paths alone are followed until one item is left, for nothing else tells apart what remains.

    Raises:
        ConfigError: a name is no part's.
    """
    if unknown := set(wanted) - set(PARTS):
        raise ConfigError(f"parts must be among {list(PARTS)}, got {sorted(unknown)}; correct evaluation.dissect")
    alone: dict[str, Any] = {"item_head": False, "finish_below": 1}
    by_head: dict[str, Any] = {"item_head": True, "path_weight": 0.0}
    changes = {
        PATHS_ALONE: alone,
        PATHS_UNGUIDED: alone | {"guidance": 0.0},
        PATHS_PROPOSE: by_head | {"ranked": "reached"},
        HEAD_ALONE: by_head | {"ranked": "catalogue"},
    }
    return [
        ours.variant(name, ours.config.model_copy(update=change)).untraced()
        for name, change in changes.items()
        if name in wanted
    ]
