"""Our ranking taken apart, to say what each part is worth: judged like any other recommender.

Axes: B batch, N item.
"""

from collections.abc import Sequence

import numpy as np

from recsys.contracts import History, Slate
from recsys.core.arrays import BoolArray
from recsys.recommender.reasoning import ReasoningRecommender
from recsys.recommender.scorer import GeneratorScorer

PATHS_ALONE = "recsys: paths alone"
PATHS_PROPOSE = "recsys: paths propose, item head ranks"
HEAD_ALONE = "recsys: item head alone"
PARTS = (PATHS_ALONE, PATHS_PROPOSE, HEAD_ALONE)


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
            if eligible_N is not None:
                scores_N[~eligible_N] = -np.inf
            if not keep_seen:
                scores_N[history.items] = -np.inf
            first = np.argpartition(-scores_N, min(n, len(scores_N) - 1))[:n]
            items = first[np.lexsort((first, -scores_N[first]))]
            items = items[np.isfinite(scores_N[items])]
            slates.append(Slate(items=items, scores=scores_N[items]))
        return slates


def dissected(ours: ReasoningRecommender) -> list[ReasoningRecommender | ItemHeadRecommender]:
    """Return the parts of a recommender, each under a name of its own."""
    return [
        ours.variant(PATHS_ALONE, ours.config.model_copy(update={"item_head": False, "guidance": 0.0})),
        ours.variant(PATHS_PROPOSE, ours.config.model_copy(update={"path_weight": 0.0, "ranked": "reached"})),
        ItemHeadRecommender(ours.scorer),
    ]
