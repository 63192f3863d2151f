"""How a token model learns from a log: every position of a history at once, the best epoch kept.

Axes: B batch, T time, R row (a training position), W window, N item, X absent item, Y drawn item, U user.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recsys.codes.layout import CodeLayout
from recsys.core.arrays import BoolArray, IntArray
from recsys.core.device import Precision, product_dtype
from recsys.core.seeds import derive_seed, rng_for
from recsys.data.events import EventLog
from recsys.model.batches import Batch, pack, reorder_ties
from recsys.model.tokens.config import TokenFitConfig, TokenModelConfig
from recsys.model.tokens.network import TokenModel
from recsys.sequence.negatives import NegativeSampler
from recsys.sequence.softmax import Answers, catalogue_cross_entropy, sampled_cross_entropy
from recsys.sequence.training import train_best_epoch
from recsys.sequence.windows import cut_from_end


@dataclass(frozen=True, kw_only=True)
class TargetWindows:
    """A log cut into windows of ``max_history`` inputs and one more target; every event is a target once.

    Shape:
        starts_W, lengths_W: (windows,) the first event of each window, and how many it has.
        opens_W: (windows,) whether the window begins with its user's first event, which then is a target too.
    """

    log: EventLog
    starts_W: IntArray
    lengths_W: IntArray
    opens_W: BoolArray

    @classmethod
    def of(cls, log: EventLog, max_history: int) -> "TargetWindows":
        """Cut each history from its end."""
        starts_W, lengths_W = cut_from_end(log, max_history, single=True)
        return cls(log=log, starts_W=starts_W, lengths_W=lengths_W, opens_W=np.isin(starts_W, log.offsets_U1[:-1]))

    @property
    def targets_W(self) -> IntArray:
        """How many of each window's events are targets, shape (windows,)."""
        return self.lengths_W - ~self.opens_W

    def batch(self, group: IntArray, rng: np.random.Generator, shuffle_ties: float) -> tuple[Batch, BoolArray]:
        """Return some windows, and which of their events are targets (batch, time)."""
        batch = pack(self.log, self.starts_W[group], self.lengths_W[group])
        steps_T = np.arange(batch.items_BT.shape[1])
        target_BT = (steps_T < batch.lengths_B[:, None]) & ((steps_T > 0) | self.opens_W[group][:, None])
        return reorder_ties(batch, shuffle_ties, rng) if shuffle_ties > 0 else batch, target_BT


class NextItemLoss:
    """The cross-entropy of the next item at every target of some windows, over all items or over drawn ones."""

    def __init__(
        self, model: TokenModel, log: EventLog, config: TokenFitConfig, *, precision: Precision = "auto"
    ) -> None:
        self.model, self.config = model, config
        self.dtype = product_dtype(precision, model.device)
        self.windows = TargetWindows.of(log, model.config.max_history)
        self.counts_N = log.counts_N
        self.absent_X = torch.from_numpy(np.flatnonzero(self.counts_N == 0)).to(model.device)
        popularity_N = np.log(np.maximum(self.counts_N, 1)).astype(np.float32)
        self.offset_N = torch.from_numpy(config.logit_adjustment * popularity_N).to(model.device)
        self.sampler = NegativeSampler(self.counts_N, config.sampled)

    def __call__(
        self,
        group: IntArray,
        rng: np.random.Generator,
        *,
        most: int | None = None,
        vectors: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Return the mean loss of some windows.

        Args:
            group: numbers of the windows.
            rng: draws what is drawn.
            most: bounds how many of their targets count.
            vectors: the model's :meth:`item_inputs` and this :meth:`item_keys`, where another loss has them already.
        """
        model = self.model
        input_ND, key_ND = vectors or (model.item_inputs(), None)
        batch, target_BT = self.windows.batch(group, rng, self.config.shuffle_ties)
        row_R, time_R = np.nonzero(target_BT)
        if most is not None and len(row_R) > most:
            drawn = rng.permutation(len(row_R))[:most]
            row_R, time_R = row_R[drawn], time_R[drawn]
        items_BT = torch.from_numpy(batch.items_BT).to(model.device)
        times_BT = torch.from_numpy(batch.timestamps_BT).to(model.device)
        queries_BTD = model.prefix_queries(items_BT[:, :-1], times_BT[:, :-1], input_ND)
        query_RD = queries_BTD[torch.from_numpy(row_R), torch.from_numpy(time_R)]
        item_R = torch.from_numpy(batch.items_BT[row_R, time_R]).to(model.device)
        if model.num_items > self.config.sampled_above:
            return self._sampled(query_RD, item_R, rng)
        answers = Answers.single(item_R, self.absent_X)
        key_ND = self.item_keys() if key_ND is None else key_ND
        return catalogue_cross_entropy(query_RD, key_ND, answers, dtype=self.dtype)

    def item_keys(self, items_X: Tensor | None = None) -> Tensor:
        """Return what queries are multiplied with in the loss, (items, width): the model's keys, logits adjusted."""
        keys_XD = self.model.item_keys(items_X)
        if not self.config.logit_adjustment:
            return keys_XD
        # the last column meets a one in every query
        offset_X = self.offset_N if items_X is None else self.offset_N[items_X]
        return torch.cat([keys_XD[:, :-1], keys_XD[:, -1:] + offset_X[:, None]], dim=1)

    def _sampled(self, query_RD: Tensor, item_R: Tensor, rng: np.random.Generator) -> Tensor:
        drawn = self.sampler.draw(rng)
        items_Y = torch.from_numpy(drawn.items_Y).to(item_R.device)
        return sampled_cross_entropy(
            query_RD,
            self.item_keys(item_R),
            self.item_keys(items_Y),
            same_RY=item_R[:, None] == items_Y,
            log_expected_Y=torch.from_numpy(drawn.log_expected_Y).to(item_R.device),
        )


def fit_token_model(  # noqa: PLR0913 (log, codes, shape, settings, validation)
    log: EventLog,
    codes_NM: IntArray,
    layout: CodeLayout,
    config: TokenModelConfig,
    fit: TokenFitConfig,
    *,
    seed: int,
    device: torch.device,
    validate: Callable[[TokenModel], float] | None = None,
    checkpoint: Path | None = None,
    precision: Precision = "auto",
) -> TokenModel:
    """Train a token model on a log, ready for use; with ``validate`` the epoch of the highest figure is kept.

    A killed training that is started again with the same checkpoint file goes on from its last validation.

    Shape:
        codes_NM: (items, codebooks).
    """
    rng = rng_for(seed, "token-batches")
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device.type == "cuda" else []):
        torch.manual_seed(derive_seed(seed, "token-model"))
        model = TokenModel(config, layout, codes_NM)
        model.set_calendar(log.timestamps_E)
        model.to(device)
        loss = NextItemLoss(model, log, fit, precision=precision)
        train_best_epoch(
            model,
            fit,
            rng,
            lengths=loss.windows.lengths_W,
            loss=loss,
            targets=loss.windows.targets_W,
            validate=None if validate is None else lambda: validate(model),
            name="token model",
            checkpoint=checkpoint,
        )
    return model.eval()
