"""The terms of the item head's logits as sources of evidence, so that each can be weighed or left out.

Axes: B history, N item, D width.
"""

from collections.abc import Sequence

import numpy as np
import torch

from recsys.contracts import History, ItemScores
from recsys.core.arrays import FloatArray
from recsys.recommender.scorer import GeneratorScorer

GENERATOR, MEMBERS, COOCCURRENCE = "generator", "members", "co-occurrence"


def head_parts(scorer: GeneratorScorer) -> dict[str, ItemScores]:
    """Return the parts of the item head's logits as functions of histories; those that a model lacks are left out.

    The generator's and the ensemble members' are as the head adds them; the co-occurrence prior's are its windows by
    their weights, before the members' share is taken off.
    """
    head, width = scorer.generator.head, scorer.vectors_ND.shape[1]

    def products(histories: Sequence[History], columns: slice) -> FloatArray:
        with torch.inference_mode():
            query_BD = head.queries(scorer.encode(histories).states)[:, columns]
            return np.asarray((query_BD @ scorer.keys_ND[:, columns].T).float().cpu().numpy(), np.float32)

    def prior(histories: Sequence[History]) -> FloatArray:
        scores = scorer.prior.scores([history.items for history in histories])
        weights = head.prior_weight_J.tolist()
        parts = [weight * scores_BN.toarray() for weight, scores_BN in zip(weights, scores, strict=True)]
        return np.asarray(sum(parts[1:], parts[0]), np.float32)

    found: dict[str, ItemScores] = {GENERATOR: lambda histories: products(histories, slice(0, width))}
    if head.members is not None:
        found[MEMBERS] = lambda histories: products(histories, slice(width, None))
    if scorer.prior.tables:
        found[COOCCURRENCE] = prior
    return found
