"""Our ranking taken apart, to say what each part is worth: judged like any other recommender.

Axes: B batch, N item.
"""

from collections.abc import Sequence

import numpy as np

from recsys.contracts import History, Slate
from recsys.core.arrays import BoolArray
from recsys.decoding.evidence import best_items
from recsys.recommender.reasoning import ReasoningRecommender
from recsys.recommender.scorer import GeneratorScorer

PATHS_ALONE = "recsys: paths alone"
PATHS_UNGUIDED = "recsys: paths alone, token heads only"
PATHS_PROPOSE = "recsys: paths propose, item head ranks"
HEAD_ALONE = "recsys: item head alone"
PARTS = (PATHS_ALONE, PATHS_UNGUIDED, PATHS_PROPOSE, HEAD_ALONE)


class ItemHeadRecommender:
    """Ranks the whole catalogue by the item head, without any path."""

    name = HEAD_ALONE

    def __init__(self, scorer: GeneratorScorer) -> None:
        self.scorer = scorer

    def recommend(
        self,
        histories: Sequence[History],
        *,
        n: int,
        keep_seen: bool = False,
        eligible_N: BoolArray | None = None,
    ) -> list[Slate]:
        """Return one slate per history (see :class:`recsys.contracts.Recommender`)."""
        scores_BN = self.scorer.score_items(self.scorer.encode(histories))
        slates = []
        for scores_N, history in zip(scores_BN, histories, strict=True):
            seen = np.empty(0, np.int64) if keep_seen else history.items
            items = best_items(scores_N, seen, eligible_N, n=n)
            slates.append(Slate(items=items, scores=scores_N[items]))
        return slates


def dissected(ours: ReasoningRecommender) -> list[ReasoningRecommender | ItemHeadRecommender]:
    """Return the parts of a recommender, each under a name of its own.

    Paths alone are followed until one item is left, for nothing else tells apart what remains.
    """
    alone = {"item_head": False, "finish_below": 1}
    return [
        ours.variant(PATHS_ALONE, ours.config.model_copy(update=alone)),
        ours.variant(PATHS_UNGUIDED, ours.config.model_copy(update=alone | {"guidance": 0.0})),
        ours.variant(PATHS_PROPOSE, ours.config.model_copy(update={"path_weight": 0.0, "ranked": "reached"})),
        ItemHeadRecommender(ours.scorer),
    ]
