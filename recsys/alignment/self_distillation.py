"""Self-distillation: losses at the ends of whole training histories against a frozen teacher's probabilities.

Axes: B history, T time, N item, D width, X entry of a batch.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from recsys.core.arrays import IntArray
from recsys.model.batches import Batch
from recsys.model.generator import Generator
from recsys.model.losses import ItemQueries, item_loss
from recsys.model.states import HistoryStates
from recsys.model.training_objective import TrainingObjective


def self_distillation_losses(
    objective: TrainingObjective, batch: Batch, teacher: Generator, rng: np.random.Generator
) -> dict[str, Tensor]:
    """Return the three losses at the ends of whole histories, with the teacher's item probabilities as targets.

    The items that follow those ends are in no training data. The item head learns the probabilities themselves (Hinton
    et al., arXiv 1503.02531, at temperature 1), the token heads what they imply along paths to items drawn from them.
    """
    generator, device = objective.generator, objective.generator.device
    rows = open_ends(objective, batch)
    read = [batch.items_BT[row, : batch.lengths_B[row]] for row in rows]
    prior_scores = objective.folds[batch.fold].prior.scores(read)
    items_BT, times_BT = (torch.from_numpy(part[rows]).to(device) for part in (batch.items_BT, batch.timestamps_BT))
    length_B = torch.from_numpy(batch.lengths_B[rows]).to(device)
    row_B = torch.arange(len(rows), device=device)
    inside_BT = torch.arange(items_BT.shape[1], device=device) < length_B[:, None]

    def states_of(model: Generator, vectors_ND: Tensor) -> HistoryStates:
        return model.encode_prefixes(items_BT, times_BT, vectors_ND).after(row_B, length_B)

    with torch.no_grad():
        vectors_ND = teacher.items()
        prob_BN = _probabilities(teacher, states_of(teacher, vectors_ND), vectors_ND, prior_scores)
    row_X, time_X = inside_BT.nonzero(as_tuple=True)
    prob_BN.index_fill_(1, objective.unused_X, 0.0)[row_X, items_BT[row_X, time_X]] = 0
    prob_BN /= prob_BN.sum(1, keepdim=True).clamp(min=torch.finfo(prob_BN.dtype).tiny)
    first_B = prob_BN.argmax(1)
    queries = ItemQueries(
        targets_R=first_B,
        seen_RT=torch.where(inside_BT, items_BT, first_B[:, None]),
        absent_X=objective.unused_X,
        prior_scores=prior_scores,
        target_prob_RN=prob_BN,
    )
    vectors_ND = generator.items()
    states = states_of(generator, vectors_ND)
    terms = generator.head.terms(states, generator.head.keys(vectors_ND))
    losses = {"item": item_loss(terms, queries, dtype=objective.dtype)}
    reached_BN = prob_BN.cumsum(1).cpu().numpy()
    drawn_B = torch.from_numpy((reached_BN < rng.random((len(rows), 1)) * reached_BN[:, -1:]).sum(1)).to(device)
    return losses | objective.path_losses(states.own_BD, drawn_B, rng, prob_BN, distillation=1.0)


def open_ends(objective: TrainingObjective, batch: Batch) -> IntArray:
    """Return which windows end with their user's last event and leave an item with training events to choose.

    For a user who has every used item the softmax over what is left would be over no item.
    """
    num_used = len(objective.codes_NM) - len(objective.unused_X)
    distinct = [len(np.unique(batch.items_BT[row, : batch.lengths_B[row]])) for row in range(len(batch.lengths_B))]
    return np.flatnonzero(batch.closed_B & (np.array(distinct) < num_used))


def _probabilities(
    teacher: Generator, states: HistoryStates, vectors_ND: Tensor, prior_scores: Sequence[csr_array]
) -> Tensor:
    """Return the teacher's item probabilities, (histories, items)."""
    return teacher.head.logits(states, teacher.head.keys(vectors_ND), prior_scores).softmax(-1)
