"""The parts of our ranking as recommenders of their own, to be evaluated beside the whole."""

from collections.abc import Collection
from typing import Any

from recsys.core.errors import ConfigError
from recsys.recommender.reasoning import ReasoningRecommender

PATHS_ALONE = "recsys: paths alone"
PATHS_UNGUIDED = "recsys: paths alone, token heads only"
HEAD_RANKS_REACHED = "recsys: paths propose, item head ranks"
HEAD_ALONE = "recsys: item head alone"
PARTS = (PATHS_ALONE, PATHS_UNGUIDED, HEAD_RANKS_REACHED, HEAD_ALONE)


def dissected(ours: ReasoningRecommender[Any], wanted: Collection[str] = PARTS) -> list[ReasoningRecommender[Any]]:
    """Return the wanted parts of a recommender, each under a name of its own and without paths beside its items.

    Paths alone are followed until one item is left, because no other score orders the items that remain.

    Raises:
        ConfigError: a name is no part's.
    """
    if unknown := set(wanted) - set(PARTS):
        raise ConfigError(f"parts must be among {list(PARTS)}, got {sorted(unknown)}; correct evaluation.dissect")
    alone = ours.config.with_ranking(item_head=False).with_search(finish_below=1)
    by_head = ours.config.with_ranking(item_head=True, path_weight=0.0)
    configs = {
        PATHS_ALONE: alone,
        PATHS_UNGUIDED: alone.with_search(guidance=0.0),
        HEAD_RANKS_REACHED: by_head.with_ranking(ranked="reached"),
        HEAD_ALONE: by_head.with_ranking(ranked="catalogue"),
    }
    return [ours.variant(name, config).untraced() for name, config in configs.items() if name in wanted]
