"""How difficult each user of a log is for a trained generator.

Axes: U user, R training row, N item, W window.
"""

from dataclasses import replace

import numpy as np
import torch

from recsys.core.arrays import FloatArray
from recsys.core.seeds import rng_for
from recsys.core.telemetry import track
from recsys.model.item_head import LogitTerms
from recsys.model.losses import ItemQueries, item_softmax
from recsys.model.training_objective import TrainingObjective


@torch.no_grad()
def difficulties(objective: TrainingObjective) -> FloatArray:
    """Return each user's mean item loss under an objective's generator, NaN for users without events.

    A co-occurrence prior is counted without the user's own pairs, as in training.

    Shape:
        returns: (users,).
    """
    objective.generator.eval()
    rows: list[FloatArray] = []

    def watch(terms: LogitTerms, queries: ItemQueries) -> None:
        prob_RN = item_softmax(terms, queries)
        rows.append(-prob_RN.gather(1, queries.targets_R[:, None])[:, 0].clamp(min=1e-30).log().cpu().numpy())

    users = objective.folds[0].log.num_users
    sum_U, count_U, rng = np.zeros(users), np.zeros(users), rng_for(objective.seed, "difficulties")
    objective.watch = watch
    for fold, batches in enumerate(objective.planned(0)):
        for place in track(range(len(batches)), what="scoring users", total=len(batches)):
            batch = replace(batches[place], fold=fold)
            objective.item_losses(batch, rng)
            starts_W = batches.starts_W[batches.groups[place]]
            user_W = np.searchsorted(objective.folds[fold].log.offsets_U1, starts_W, side="right") - 1
            user_R = np.repeat(user_W, batch.lengths_B)
            sum_U += np.bincount(user_R, rows.pop(), minlength=users)
            count_U += np.bincount(user_R, minlength=users)
    objective.watch = None
    return np.divide(sum_U, count_U, out=np.full(users, np.nan), where=count_U > 0)
