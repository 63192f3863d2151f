"""The item head: item logits from scaled cosines, ensemble members, the co-occurrence prior and biases.

Axes: B batch row, N item, J co-occurrence window, D width (own and the members'), X entry of a sparse matrix.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from recsys.core.arrays import IntArray
from recsys.core.errors import ArtifactError
from recsys.core.unit import unit_rows
from recsys.model.config import GeneratorConfig
from recsys.model.cooccurrence_prior import CooccurrencePrior, entries
from recsys.model.states import HistoryStates
from recsys.sequence.id_ensemble import IdEnsemble
from recsys.sequence.id_transformer import IdTransformer, IdTransformerConfig

MAX_SCALE = 50.0
"""Largest factor of the cosines."""
_TEMPERATURE = 0.07


@dataclass(frozen=True, kw_only=True)
class LogitTerms:
    """The terms of item logits, without the scores of the co-occurrence prior.

    Shape:
        queries_BD: (batch, width) and keys_ND: (items, width), whose products are logits.
        bias_N: (items,) added to every row.
        weight_J: (windows,) the weight of each window's scores.
    """

    queries_BD: Tensor
    keys_ND: Tensor
    bias_N: Tensor
    weight_J: Tensor

    def take(self, rows: slice | Tensor) -> "LogitTerms":
        """Return the terms of some rows: a slice, or their numbers."""
        return replace(self, queries_BD=self.queries_BD[rows])

    def detached(self) -> "LogitTerms":
        """Return the same terms, detached from the graph of gradients."""
        parts = {field.name: getattr(self, field.name).detach() for field in fields(self)}
        return replace(self, **parts)


def item_logits(terms: LogitTerms, prior: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Return item logits: queries times keys, plus a bias an item, plus the weighted scores of the prior.

    Products run in the type of the queries, the rest in float32.

    Shape:
        prior: for each window where its scores lie in the flattened logits, and the scores (:func:`entries`).
        result: (batch, items), float32.
    """
    bias_N = terms.bias_N.to(terms.queries_BD.dtype)
    logits_BN = torch.addmm(bias_N, terms.queries_BD, terms.keys_ND.T).float()
    return add_prior_(logits_BN, terms.weight_J, prior)


def add_prior_(logits_BN: Tensor, weight_J: Tensor, prior: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Add the weighted scores of the prior to logits, in place, and return them; arguments as :func:`item_logits`."""
    for weight, (place_X, value_X) in zip(weight_J, prior, strict=True):
        logits_BN.view(-1).index_add_(0, place_X, weight * value_X)
    return logits_BN


class ItemHead(nn.Module):
    """Scores items by scaled cosines of the history's state, ensemble members' logits and the co-occurrence prior.

    The members' share of the logits (``member_share`` of the config) is taken from the cosines and the prior alike.
    """

    bias_N: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.log_scale = nn.Parameter(torch.tensor(float(np.log(1 / _TEMPERATURE))))
        self.register_buffer("bias_N", torch.zeros(config.num_items))
        self.prior_weight_J = nn.Parameter(torch.full((len(config.prior_pairs),), 0.3))
        for window, pairs in enumerate(config.prior_pairs):
            self.register_buffer(f"prior_starts_{window}", torch.zeros(config.num_items + 1, dtype=torch.int32))
            self.register_buffer(f"prior_items_{window}", torch.zeros(pairs, dtype=torch.int32))
            self.register_buffer(f"prior_values_{window}", torch.zeros(pairs))
        self.members: IdEnsemble | None = None
        if config.members:
            settings = [IdTransformerConfig(**member) for member in config.members]
            self.members = IdEnsemble([IdTransformer(one, config.num_items) for one in settings])

    def set_members(self, members: Sequence[tuple[IdTransformer, IdTransformerConfig]], unused_X: Tensor) -> None:
        """Take networks that were trained apart as ensemble members; their weights stay frozen, their share unchanged.

        Items without training events get zero vectors in them.
        """
        together = IdEnsemble([network for network, _ in members])
        self.members = together.requires_grad_(False).to(self.log_scale.device).train(self.training)
        self.members.forget_items(unused_X)
        self.config.members = [config.model_dump() for _, config in members]

    @torch.no_grad()
    def set_prior(self, prior: CooccurrencePrior) -> None:
        """Store a prior; its tables must have as many pairs as the config's ``prior_pairs``."""
        for window, table_NN in enumerate(prior.tables):
            for part, values in (("starts", table_NN.indptr), ("items", table_NN.indices), ("values", table_NN.data)):
                getattr(self, f"prior_{part}_{window}").copy_(torch.from_numpy(values))

    def prior(self) -> CooccurrencePrior:
        """Return the stored prior, without tables where the model has none."""
        shape = (self.config.num_items, self.config.num_items)
        parts = [
            [getattr(self, f"prior_{part}_{window}").cpu().numpy() for part in ("values", "items", "starts")]
            for window in range(len(self.config.prior_pairs))
        ]
        for _, items, starts in parts:
            _require_indices(items, starts, self.config.num_items)
        return CooccurrencePrior(tables=tuple(csr_array(tuple(part), shape=shape) for part in parts))

    def drop_members(self) -> None:
        """Forget the members: without a share they change no logit, but cost the time of an encoder each."""
        self.members, self.config.members, self.config.member_share = None, [], 0.0

    def keys(self, vectors_ND: Tensor, items_X: Tensor | None = None) -> Tensor:
        """Return what queries are multiplied with: unit item vectors, beside the members' where there are any.

        ``items_X``: which items the vectors are of, where they are not all.
        """
        unit_ND = unit_rows(vectors_ND)
        return unit_ND if self.members is None else torch.cat([unit_ND, self.members.keys(items_X)], dim=1)

    def queries(self, states: HistoryStates) -> Tensor:
        """Return what gives item logits in products with :meth:`keys`: both sides weighted by their shares."""
        # An alias: the gradients of x / |x| are summed before those of other readers of the state, whoever reads it.
        alias_BD = states.own_BD[:]
        own_BD = unit_rows(alias_BD) * self.log_scale.exp().clamp(max=MAX_SCALE)
        if self.members is None or states.members_BD is None:
            return own_BD
        share = self.config.member_share
        return torch.cat([(1 - share) * own_BD, share * self.members.queries(states.members_BD)], dim=1)

    def terms(self, states: HistoryStates, keys_ND: Tensor, items_X: Tensor | None = None) -> LogitTerms:
        """Return the terms of the logits of all items after some histories, or of those that ``items_X`` names.

        Shape:
            keys_ND: (items, width) of :meth:`keys`.
        """
        others = 0.0 if self.members is None else self.config.member_share
        return LogitTerms(
            queries_BD=self.queries(states),
            keys_ND=keys_ND,
            bias_N=self.bias_N if items_X is None else self.bias_N[items_X],
            weight_J=(1 - others) * self.prior_weight_J,
        )

    def logits(self, states: HistoryStates, keys_ND: Tensor, prior_scores: Sequence[csr_array]) -> Tensor:
        """Return the logits of all items after some histories, with gradients, (batch, items).

        Args:
            states: of the histories.
            keys_ND: (items, width) of :meth:`keys`.
            prior_scores: for each window of the prior sparse (histories, items) scores.
        """
        prior = [entries(scores_BN, keys_ND.device) for scores_BN in prior_scores]
        return item_logits(self.terms(states, keys_ND), prior)

    def add_repeat_bias(self, logits_BN: Tensor, histories: Sequence[IntArray]) -> Tensor:
        """Add the bias of repeats to the logits of the items of each history, once an item; changes the argument."""
        if self.config.repeat_bias:
            rows_X = np.repeat(np.arange(len(histories)), [len(items) for items in histories])
            had = (torch.from_numpy(axis).to(logits_BN.device) for axis in (rows_X, np.concatenate(histories)))
            logits_BN[tuple(had)] += self.config.repeat_bias
        return logits_BN


def _require_indices(items_X: IntArray, starts_N1: IntArray, num_items: int) -> None:
    """Refuse a table whose entries point outside it: sparse products do not look and end the process.

    Shape:
        items_X: (entries,) columns. starts_N1: (items + 1,) where each row's entries start.

    Raises:
        ArtifactError: an index is out of range.
    """
    rising = bool((np.diff(starts_N1) >= 0).all()) and starts_N1[0] == 0 and starts_N1[-1] == len(items_X)
    inside = not len(items_X) or bool(items_X.min() >= 0 and items_X.max() < num_items)
    if not (rising and inside):
        raise ArtifactError(
            f"a table of the co-occurrence prior must hold rising starts and items below {num_items}, got others; "
            f"the model's file is damaged, make it again"
        )
