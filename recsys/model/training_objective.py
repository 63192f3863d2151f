"""The training objective: batches of training windows, and the generator's losses on them.

Axes: B batch row, T time, R training row (a position of a window), M codebook, K code, N item, Q category, D width,
X item without events, or of a shortlist.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from recsys.codes.validity import ValidityIndex
from recsys.core.arrays import IntArray
from recsys.core.device import Precision, product_dtype
from recsys.core.errors import ConfigError
from recsys.core.seeds import rng_for
from recsys.core.workers import ALONE, Workers
from recsys.data.events import EventLog
from recsys.model.batches import Batch, EpochBatches, epoch_batches
from recsys.model.config import FitConfig
from recsys.model.cooccurrence_prior import CooccurrencePrior, Fold, cross_fit
from recsys.model.generator import Generator
from recsys.model.item_head import LogitTerms
from recsys.model.losses import ItemQueries, category_loss, item_loss, item_softmax, token_loss
from recsys.model.partial import draw_partial_paths, implied_targets, true_targets
from recsys.model.pruning import Pruning, Teacher
from recsys.model.shortlist import Shortlist
from recsys.model.states import HistoryStates
from recsys.sequence.negatives import NegativeSampler


@dataclass(frozen=True, kw_only=True)
class TargetWindow:
    """Which events of a training window have a loss, and which item after each is its target."""

    latest: int | None = None
    """How many of the latest events; None: all."""
    ahead: int = 1
    """The target is one of so many next items, drawn by :func:`draw_ahead`."""
    decay: float = 1.0
    """Weight of an item relative to the one before it."""


NEXT_ITEMS = TargetWindow()
"""The next item after every event."""


@dataclass(frozen=True, kw_only=True)
class _ItemPass:
    """The item head's loss on a batch, and what it was computed from, one row a position.

    ``near`` are the items that it is over in a large catalogue; None: all items.

    Shape:
        target_R: (rows,) the item that each position is to predict.
    """

    loss: Tensor
    states: HistoryStates
    target_R: Tensor
    terms: LogitTerms
    queries: ItemQueries
    near: Shortlist | None


class TrainingObjective:
    """The losses of a training log's windows; users are in folds, each with a prior counted without it."""

    def __init__(
        self,
        generator: Generator,
        log: EventLog,
        category_N: IntArray,
        config: FitConfig,
        *,
        seed: int,
        precision: Precision = "auto",
    ) -> None:
        self.generator, self.config, self.seed = generator, config, seed
        self.dtype = product_dtype(precision, generator.device)
        self.watch: Callable[[LogitTerms, ItemQueries], None] | None = None
        self.weights = {"item": 1.0, "token": config.token_weight, "category": config.category_weight}
        self.category_N = torch.from_numpy(category_N).to(generator.device)
        self.codes_NM = generator.codes_NM.cpu().numpy()
        self.index = ValidityIndex(self.codes_NM, generator.config.codebook_size)
        self.codes_MN = generator.codes_NM.T.contiguous()
        self.unused_X = torch.from_numpy(np.flatnonzero(log.counts_N == 0)).to(generator.device)
        self.sampler: NegativeSampler | None = None
        if log.num_items > config.sampled_above:
            self.sampler = NegativeSampler(log.counts_N, config.sampled)
        self.folds = [Fold(log=log, prior=CooccurrencePrior(tables=()))]
        if generator.config.prior_pairs:
            self.folds = cross_fit(log, config.prior_folds, rng_for(seed, "folds"), generator.head.prior().likeness)
        self.teacher: Teacher | None = None

    def prune(self, pruning: Pruning) -> None:
        """Train on the kept users alone from here on; priors and the items of the softmax stay those of the log.

        Raises:
            ConfigError: the teacher's item head reads other tables of the co-occurrence prior.
        """
        if pruning.teacher is not None:
            theirs, ours = (len(one.config.prior_pairs) for one in (pruning.teacher.generator, self.generator))
            if theirs != ours:
                raise ConfigError(
                    f"fit.pruning.teacher must have {ours} tables of the co-occurrence prior as the student, got "
                    f"{theirs}; train both with the same model.cooccurrence and the same items"
                )
        self.teacher = pruning.teacher
        for place, fold in enumerate(self.folds):
            kept = fold.log.first(np.where(pruning.kept_U, fold.log.lengths_U, 0))
            self.folds[place] = replace(fold, log=kept)

    def batches(self, epoch: int, workers: Workers = ALONE) -> Iterator[Batch]:
        """Yield the batches of an epoch, or a worker's share of each, those of all folds in random order."""
        planned = self.planned(epoch, workers)
        found = [(fold, place) for fold, batches in enumerate(planned) for place in range(len(batches))]
        for place in rng_for(self.seed, "order", epoch).permutation(len(found)):
            fold, batch = found[place]
            yield replace(planned[fold][batch], fold=fold)

    def count_batches(self) -> int:
        """Return how many batches an epoch has: those of the first, which others miss by few."""
        return sum(map(len, self.planned(0)))

    def planned(self, epoch: int, workers: Workers = ALONE) -> list[EpochBatches]:
        """Return the batches of each fold in an epoch."""
        return [
            epoch_batches(
                fold.log,
                max_length=self.generator.shape.max_history,
                positions=self.config.batch_positions,
                rng=rng_for(self.seed, "epoch", epoch, place),
                shuffle_ties=self.config.shuffle_ties,
                workers=workers,
            )
            for place, fold in enumerate(self.folds)
        ]

    def losses(self, batch: Batch, rng: np.random.Generator, window: TargetWindow = NEXT_ITEMS) -> dict[str, Tensor]:
        """Return the three losses of a batch of windows."""
        items = self._item_pass(batch, rng, window)
        picked_R = np.flatnonzero(rng.random(len(items.target_R)) < self.config.token_share)
        picked_R = picked_R if len(picked_R) else np.arange(1)
        rows = torch.from_numpy(picked_R).to(self.generator.device)
        prob_RN = None
        if self.config.distillation > 0:
            prob_RN = item_softmax(items.terms.take(rows), items.queries.take(picked_R), dtype=self.dtype)
        return {"item": items.loss} | self.path_losses(
            items.states.own_BD[rows],
            items.target_R[rows],
            rng,
            prob_RN,
            distillation=self.config.distillation,
            near=items.near,
        )

    def item_losses(
        self, batch: Batch, rng: np.random.Generator, window: TargetWindow = NEXT_ITEMS
    ) -> dict[str, Tensor]:
        """Return the item head's loss alone, by its name, for the targets that :meth:`losses` has."""
        return {"item": self._item_pass(batch, rng, window).loss}

    def _item_pass(self, batch: Batch, rng: np.random.Generator, window: TargetWindow) -> _ItemPass:
        generator = self.generator
        items_BT = torch.from_numpy(batch.items_BT).to(generator.device)
        times_BT = torch.from_numpy(batch.timestamps_BT).to(generator.device)
        near = self._shortlist(batch, rng)
        items_X = None if near is None else near.items_X
        places_BT = items_BT if near is None else near.places(items_BT)
        vectors_ND = generator.items(items_X)
        prefixes = generator.encode_prefixes(
            items_BT[:, :-1], times_BT[:, :-1], vectors_ND, places_BT=places_BT[:, :-1]
        )
        from_end_BT = batch.lengths_B[:, None] - np.arange(items_BT.shape[1])
        windows_R, steps_R = np.nonzero((from_end_BT >= 1) & (from_end_BT <= (window.latest or items_BT.shape[1])))
        row_R, time_R = (torch.from_numpy(axis).to(generator.device) for axis in (windows_R, steps_R))
        states = prefixes.after(row_R, time_R)
        ahead_R = draw_ahead(from_end_BT[windows_R, steps_R], window, rng)
        target_R = items_BT[row_R, time_R + torch.from_numpy(ahead_R).to(generator.device)]
        before_RT = torch.arange(items_BT.shape[1], device=generator.device) < time_R[:, None]
        answer_R = target_R if near is None else near.places(target_R)
        queries = ItemQueries(
            targets_R=answer_R,
            seen_RT=torch.where(before_RT, places_BT[row_R], answer_R[:, None]),
            absent_X=self.unused_X if near is None else self.unused_X[:0],
            prior_scores=self._prior_scores(batch, windows_R, steps_R, items_X),
            correction_N=None if near is None else near.correction_X,
        )
        terms = generator.head.terms(states, generator.head.keys(vectors_ND, items_X), items_X)
        if self.watch is not None:
            self.watch(terms, queries)
        mixed = queries
        if self.teacher is not None:
            mixed = self.teacher.mix_targets(items_BT[:, :-1], times_BT[:, :-1], states, queries, self.dtype)
        loss = item_loss(terms, mixed, dtype=self.dtype)
        return _ItemPass(loss=loss, states=states, target_R=target_R, terms=terms, queries=queries, near=near)

    def _shortlist(self, batch: Batch, rng: np.random.Generator) -> Shortlist | None:
        """Return the items that the losses of a batch need in a large catalogue; None: all items."""
        if self.sampler is None:
            return None
        return Shortlist.of(batch.items_BT, self.sampler.draw(rng), self.generator.device)

    def _prior_scores(
        self, batch: Batch, windows_R: IntArray, steps_R: IntArray, items_X: Tensor | None
    ) -> list[csr_array]:
        """Return the prior's sparse scores after prefixes of a batch's windows, of all items or of some."""
        prior = self.folds[batch.fold].prior
        if not prior.tables:
            return []
        read = [batch.items_BT[row, :time] for row, time in zip(windows_R, steps_R, strict=True)]
        scores = prior.scores(read)
        return scores if items_X is None else [scores_RN[:, items_X.cpu().numpy()] for scores_RN in scores]

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """Return the weighted sum of a batch's losses."""
        return torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()

    def path_losses(
        self,
        state_RD: Tensor,
        target_R: Tensor,
        rng: np.random.Generator,
        prob_RN: Tensor | None,
        *,
        distillation: float,
        near: Shortlist | None = None,
    ) -> dict[str, Tensor]:
        """Return the token and category losses on partial paths to the targets.

        ``distillation`` is the share of the item probabilities ``prob_RN`` in the token targets; they are of the
        items of ``near`` where it is given.
        """
        device = state_RD.device
        paths = draw_partial_paths(self.index, self.codes_NM[target_R.cpu().numpy()], self.config.depths, rng)
        partial_RM = torch.from_numpy(paths.partial_RM).to(device)
        targets_RMK = true_targets(paths).to(device)
        if prob_RN is not None:
            known = paths if near is None else paths.within(near)
            codes_MN = self.codes_MN if near is None else self.codes_MN[:, near.items_X]
            implied_RMK = implied_targets(known, prob_RN, codes_MN)
            targets_RMK = torch.lerp(targets_RMK, implied_RMK, distillation)
        logits_RMK, category_RQ = self.generator.step(state_RD, partial_RM)
        allowed_RMK = torch.from_numpy(paths.allowed_RMK).to(device)
        return {
            "token": token_loss(logits_RMK, allowed_RMK, targets_RMK, partial_RM < 0),
            "category": category_loss(category_RQ, self.category_N[target_R]),
        }


def draw_ahead(left_R: IntArray, window: TargetWindow, rng: np.random.Generator) -> IntArray:
    """Draw the target of each position among its next items, the j-th of those there are with weight decay^(j-1).

    Shape:
        left_R: (rows,) how many items follow, at least one.
        result: (rows,) how many items to pass over.
    """
    if window.ahead == 1:
        return np.zeros_like(left_R)
    place_H = np.arange(window.ahead)
    reached_RH = (window.decay**place_H * (place_H < left_R[:, None])).cumsum(axis=1)
    drawn_R = rng.random(len(left_R)) * reached_RH[:, -1]
    return np.asarray((drawn_R[:, None] >= reached_RH).sum(axis=1))
