"""Several id Transformers as one: the mean of their logits, as products of longer queries and keys.

Axes: B sequence, T time, D width (all networks' side by side), R state, X item to score.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from recsys.sequence.id_transformer import IdTransformer


class IdEnsemble(nn.Module):
    """Id Transformers that were trained apart, each with the same part of the logits."""

    def __init__(self, networks: Sequence[IdTransformer]) -> None:
        super().__init__()
        self.networks = cast(list[IdTransformer], nn.ModuleList(networks))

    def prefix_states(self, items_BT: Tensor) -> Tensor:
        """Return every network's state after each prefix (:meth:`IdTransformer.prefix_states`).

        Shape:
            result: (sequences, positions + 1, width).
        """
        return torch.cat([network.prefix_states(items_BT) for network in self.networks], dim=-1)

    def queries(self, states_RD: Tensor) -> Tensor:
        """Return the vectors whose inner products with :meth:`keys` are the mean of the networks' logits."""
        states = states_RD.split([network.items.embedding_dim for network in self.networks], dim=-1)
        each = [network.queries(own_RD) for network, own_RD in zip(self.networks, states, strict=True)]
        return torch.cat(each, dim=-1) / len(each)

    def keys(self, items_X: Tensor | None = None) -> Tensor:
        """Return the vectors of items, of all where none are given, that queries are compared with."""
        return torch.cat([network.keys(items_X) for network in self.networks], dim=-1)

    @torch.no_grad()
    def forget_items(self, items_X: Tensor) -> None:
        """Give items zero vectors, so that they have no logit but 0."""
        for network in self.networks:
            network.items.weight[items_X] = 0
