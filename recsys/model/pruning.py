"""Training on a part of the log: which users are kept, and targets mixed with a teacher's probabilities.

A user's difficulty is the mean item loss of the teacher on the user's training events (examples are scored and kept so
in "Beyond neural scaling laws", arXiv 2206.14486). The student's target is the item that came next, mixed with the
teacher's probabilities ("Distilling the knowledge in data pruning", arXiv 2403.07854).

Axes: U user, B batch row, T time, R training row, N item.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from recsys.core.arrays import BoolArray, FloatArray
from recsys.core.seeds import rng_for
from recsys.model.config import PruningConfig
from recsys.model.generator import Generator
from recsys.model.losses import ItemQueries, item_softmax
from recsys.model.states import HistoryStates


class Teacher:
    """A frozen generator whose item probabilities are mixed into a student's targets.

    Args:
        generator: trained on the whole log; of the student's items, in their order.
        share: of its probabilities in a target; the rest is on the item that came next.
    """

    def __init__(self, generator: Generator, share: float) -> None:
        self.generator, self.share = generator.eval().requires_grad_(False), share
        with torch.no_grad():
            self.vectors_ND = generator.items()
            self.keys_ND = generator.head.keys(self.vectors_ND)

    @torch.no_grad()
    def mix_targets(
        self, items_BT: Tensor, times_BT: Tensor, states: HistoryStates, queries: ItemQueries, dtype: torch.dtype
    ) -> ItemQueries:
        """Return a batch's queries with the teacher's item probabilities mixed into their targets.

        Shape:
            items_BT, times_BT: (batch, time) what the student's ``states`` are the prefixes of.
        """
        prefixes = self.generator.encode_prefixes(items_BT, times_BT, self.vectors_ND)
        terms = self.generator.head.terms(prefixes.after(states.row_B, states.length_B), self.keys_ND)
        prob_RN = item_softmax(terms, queries, dtype=dtype).mul_(self.share)
        rest_R1 = torch.full_like(prob_RN[:, :1], 1 - self.share)
        return replace(queries, target_prob_RN=prob_RN.scatter_add_(1, queries.targets_R[:, None], rest_R1))


@dataclass(frozen=True, kw_only=True, eq=False)
class Pruning:
    """The users that a pruned training keeps, and its teacher.

    Shape:
        kept_U: (users,) True where the user is trained on.
    """

    kept_U: BoolArray
    teacher: Teacher | None = None


def plan_pruning(config: PruningConfig, difficulty_U: FloatArray, generator: Generator | None, *, seed: int) -> Pruning:
    """Return what to train on.

    Args:
        config: which share of users, and which users.
        difficulty_U: (users,) of :func:`recsys.model.difficulty.difficulties`, NaN where there is nothing to learn.
        generator: the teacher; None for no teacher.
        seed: of the draw of users that are kept at random.
    """
    users_U = np.flatnonzero(~np.isnan(difficulty_U))
    count = max(1, round(config.keep * len(users_U)))
    score_U: dict[str, FloatArray] = {
        "hard": -difficulty_U,
        "easy": difficulty_U,
        "random": rng_for(seed, "pruning").random(len(difficulty_U), dtype=np.float32),
    }
    kept_U = np.zeros(len(difficulty_U), dtype=np.bool_)
    kept_U[users_U[np.argsort(score_U[config.prefer][users_U], kind="stable")[:count]]] = True
    teacher = None if generator is None or not config.distillation else Teacher(generator, config.distillation)
    return Pruning(kept_U=kept_U, teacher=teacher)
