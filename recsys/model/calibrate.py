"""The choice of numbers of the item head on validation, after training.

The training loss cannot set them: its softmax leaves out items of the history and items without events, and the
ensemble members were trained on the same targets. A discount of popular items trades accuracy for rare items, which no
loss here asks for.

Axes: B batch row, U user, N item, X unused item, V value that is tried.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from recsys.contracts import History
from recsys.core.arrays import Float64Array, FloatArray, IntArray
from recsys.data.splits import Questions
from recsys.model.generator import Generator
from recsys.model.states import HistoryStates
from recsys.sequence.validation import mean_ndcg, summed_ndcg

SHARES = (0.0, 0.2, 0.35, 0.5, 0.65)
"""Shares of the item logits that are tried for the ensemble members."""
UNUSED_BIASES = (4.0, 3.0, 2.0, 1.0, 0.0, -1.0, -2.0, -4.0, -8.0)
"""Biases of items without training events that are tried, the largest first."""
ROOM_COST = 0.005
"""Share of NDCG@10 that a bias for unused items may cost; too few validation targets are unused to show its gain."""
REPEAT_BIASES = (0.0, 1.0, 2.0, -1.0, -2.0, -4.0, -8.0, -16.0)
"""Biases of the items of a history that are tried: some logs have many repeats, some none."""
DISCOUNTS = (0.3, 0.25, 0.2, 0.15, 0.125, 0.1, 0.075, 0.05, 0.025)
"""Multiples of the log of an item's training events that are tried as a discount, the largest first."""
BATCH_SIZE = 256


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The numbers of an item head that validation chooses."""

    member_share: float = 0.0
    unused_bias: float = 0.0
    repeat_bias: float = 0.0


def calibrate(generator: Generator, questions: Questions, unused_X: Tensor) -> Choice:
    """Choose by NDCG@10, one number after the other, write them into the generator and return them.

    Among equals the first is taken; unused items get the largest bias that costs no more than :data:`ROOM_COST`. The
    bias of repeats is chosen with seen items left in the ranking, the others with seen items taken out.
    """
    choice = Choice()
    encoded = _Encoded.of(generator, questions)

    def ndcg_of(tried: Sequence[Choice], *, keep_seen: bool = False) -> Float64Array:
        return _ndcg_of(
            generator, [partial(_write, generator, one, unused_X) for one in tried], encoded, keep_seen=keep_seen
        )

    if generator.head.members is not None:
        tried = [replace(choice, member_share=share) for share in SHARES]
        choice = tried[int(ndcg_of(tried).argmax())]
    if len(unused_X):
        tried = [replace(choice, unused_bias=bias) for bias in UNUSED_BIASES]
        ndcg_V = ndcg_of(tried)
        choice = tried[int((ndcg_V >= (1 - ROOM_COST) * ndcg_V.max()).argmax())]
    tried = [replace(choice, repeat_bias=bias) for bias in REPEAT_BIASES]
    choice = tried[int(ndcg_of(tried, keep_seen=True).argmax())]
    _write(generator, choice, unused_X)
    return choice


def discount_popularity(generator: Generator, questions: Questions, counts_N: IntArray, *, least_ndcg: float) -> float:
    """Take the largest of :data:`DISCOUNTS` at which NDCG@10 is not below ``least_ndcg``, write and return it; 0: none.

    A discount times the log of an item's training events is taken off its logit (logit adjustment, arXiv 2007.07314,
    after training), seen items are out of the ranking. Items without events keep their logit.

    Shape:
        counts_N: (items,) training events.
    """
    bias_N = generator.head.bias_N.clone()
    log_N = torch.from_numpy(np.log(np.maximum(counts_N, 1))).to(bias_N)

    def write(discount: float) -> None:
        generator.head.bias_N.copy_(bias_N - discount * log_N)

    tried = [partial(write, discount) for discount in DISCOUNTS]
    ndcg_V = _ndcg_of(generator, tried, _Encoded.of(generator, questions))
    kept = next((discount for discount, ndcg in zip(DISCOUNTS, ndcg_V, strict=True) if ndcg >= least_ndcg), 0.0)
    write(kept)
    return kept


def item_head_ndcg(generator: Generator, questions: Questions) -> float:
    """Return NDCG@10 of the item head alone with seen items removed: the cheap figure that picks the epoch."""
    with torch.inference_mode():
        vectors_ND, prior = generator.items(), generator.head.prior()
        keys_ND = generator.head.keys(vectors_ND)

        def score(histories: Sequence[History]) -> FloatArray:
            states = generator.encode(histories, vectors_ND=vectors_ND)
            items = [history.items for history in histories]
            logits_BN = generator.head.logits(states, keys_ND, prior.scores(items))
            scores_BN: FloatArray = generator.head.add_repeat_bias(logits_BN, items).cpu().numpy()
            return scores_BN

        return mean_ndcg(score, questions.histories, questions.targets_U, batch_size=BATCH_SIZE)


def _write(generator: Generator, choice: Choice, unused_X: Tensor) -> None:
    generator.config.member_share = choice.member_share
    generator.config.repeat_bias = choice.repeat_bias
    generator.head.bias_N[unused_X] = choice.unused_bias


@dataclass(frozen=True, kw_only=True)
class _Encoded:
    """Questions by the lengths of their histories, and the state of each batch of :data:`BATCH_SIZE`.

    No state depends on what is chosen, so histories are encoded once for all choices.
    """

    questions: Questions
    states: tuple[HistoryStates, ...]
    vectors_ND: Tensor

    @classmethod
    @torch.inference_mode()
    def of(cls, generator: Generator, questions: Questions) -> "_Encoded":
        """Encode the questions' histories."""
        vectors_ND, questions = generator.items(), questions.by_length()
        batches = (
            questions.histories[start : start + BATCH_SIZE] for start in range(0, len(questions.targets_U), BATCH_SIZE)
        )
        states = tuple(generator.encode(batch, vectors_ND=vectors_ND) for batch in batches)
        return cls(questions=questions, states=states, vectors_ND=vectors_ND)


@torch.inference_mode()
def _ndcg_of(
    generator: Generator, tried: Sequence[Callable[[], None]], encoded: _Encoded, *, keep_seen: bool = False
) -> Float64Array:
    """Return the NDCG@10 that each of several changes of the item head gives; a change overwrites the one before.

    Shape:
        result: (changes,).
    """
    head, prior, questions = generator.head, generator.head.prior(), encoded.questions
    keys_ND = head.keys(encoded.vectors_ND)
    total_V = np.zeros(len(tried))
    for start, states in zip(range(0, len(questions.targets_U), BATCH_SIZE), encoded.states, strict=True):
        histories = questions.histories[start : start + BATCH_SIZE]
        items = [history.items for history in histories]
        scores = prior.scores(items)
        targets_B = questions.targets_U[start : start + BATCH_SIZE]
        for place, change in enumerate(tried):
            change()
            scores_BN = head.add_repeat_bias(head.logits(states, keys_ND, scores), items).cpu().numpy()
            total_V[place] += summed_ndcg(scores_BN, histories, targets_B, keep_seen=keep_seen)
    return total_V / max(1, len(questions.targets_U))
