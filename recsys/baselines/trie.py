"""A trie over a catalogue's ids as dense tables, so that a batch of beams is extended without a loop.

Axes: N item, R row (items in the order of their ids), L token of an id, C code, P node of a level, B history, W beam.
"""

import numpy as np
import torch
from torch import Tensor

from recsys.core.arrays import IntArray


class Trie:
    """Every prefix of an id is a node of its level; the last level's nodes are the rows, one per item.

    Shape:
        item_R: (rows,) the item of each row.
        children: for each level (nodes of the level before, codes), the node of this level, or -1.
        starts, stops: for each level (nodes,) the rows below a node.
    """

    def __init__(self, ids_NL: IntArray, device: torch.device) -> None:
        order_R = np.lexsort(ids_NL.T[::-1])
        sorted_RL = ids_NL[order_R]
        changes_RL = np.logical_or.accumulate(np.diff(sorted_RL, axis=0, prepend=-1) != 0, axis=1)
        if not changes_RL[:, -1].all():
            raise ValueError("ids must be distinct, got two equal rows; add a token that tells them apart")
        self.item_R = torch.from_numpy(order_R).to(device)
        self.children: list[Tensor] = []
        self.starts: list[Tensor] = []
        self.stops: list[Tensor] = []
        parent_R, parents = np.zeros(len(order_R), np.int64), 1
        for level in range(ids_NL.shape[1]):
            starts_P = np.flatnonzero(changes_RL[:, level])
            table_PC = np.full((parents, int(ids_NL[:, level].max()) + 1), -1)
            table_PC[parent_R[starts_P], sorted_RL[starts_P, level]] = np.arange(len(starts_P))
            self.children.append(torch.from_numpy(table_PC).to(device))
            self.starts.append(torch.from_numpy(starts_P).to(device))
            self.stops.append(torch.from_numpy(np.append(starts_P[1:], len(order_R))).to(device))
            parent_R, parents = np.cumsum(changes_RL[:, level]) - 1, len(starts_P)

    def alive(self, allowed_BN: Tensor) -> list[Tensor]:
        """Return for each level which nodes lead to an allowed item.

        Shape:
            allowed_BN: (histories, items) bool.
            result: for each level (histories, nodes) bool.
        """
        before_BR = torch.nn.functional.pad(allowed_BN[:, self.item_R].cumsum(1, dtype=torch.int32), (1, 0))
        return [
            before_BR[:, stops_P] > before_BR[:, starts_P]
            for starts_P, stops_P in zip(self.starts, self.stops, strict=True)
        ]

    def extend(self, level: int, node_BW: Tensor, alive_BP: Tensor) -> Tensor:
        """Return the nodes that each beam can go on to at a level, -1 where no allowed item lies.

        Shape:
            node_BW: (histories, beams), nodes of the level before (the root is 0).
            alive_BP: this level's part of :meth:`alive`.
            result: (histories, beams, codes).
        """
        child_BWC = self.children[level][node_BW]
        alive_BWC = alive_BP.gather(1, child_BWC.clamp(min=0).flatten(1)).view_as(child_BWC)
        return child_BWC.masked_fill(~alive_BWC, -1)
