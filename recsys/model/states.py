"""What encoding histories returns: the history encoder's states, the ensemble members', and all positions.

Axes: B batch row, T time, D width.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PrefixStates:
    """The states of histories after every prefix: entry t has seen the first t items.

    Shape:
        own_BTD: (batch, time + 1, width) the history encoder's.
        members_BTD: (batch, time + 1, members' widths) the ensemble members' side by side, None without members.
    """

    own_BTD: Tensor
    members_BTD: Tensor | None

    def after(self, row_B: Tensor, length_B: Tensor) -> "HistoryStates":
        """Return the states of some prefixes.

        Shape:
            row_B: (states,) which history; length_B: (states,) how many of its items are seen.
        """
        return HistoryStates(
            own_BD=self.own_BTD[row_B, length_B],
            members_BD=None if self.members_BTD is None else self.members_BTD[row_B, length_B],
            positions=self,
            row_B=row_B,
            length_B=length_B,
        )


@dataclass(frozen=True, kw_only=True)
class HistoryStates:
    """One state a history, and all positions that were encoded on the way.

    Shape:
        own_BD: (batch, width) the history encoder's state.
        members_BD: (batch, members' widths) the ensemble members' states side by side, None without members.
        positions: the states after every prefix of the histories that were encoded together.
        row_B: (batch,) each state's row in ``positions``.
        length_B: (batch,) how many items each state has seen; it may read positions 0 to ``length_B``.
    """

    own_BD: Tensor
    members_BD: Tensor | None
    positions: PrefixStates
    row_B: Tensor
    length_B: Tensor

    def __len__(self) -> int:
        return len(self.own_BD)

    def take(self, rows: slice | Tensor) -> "HistoryStates":
        """Return some of the states: a slice, or their numbers."""
        return HistoryStates(
            own_BD=self.own_BD[rows],
            members_BD=None if self.members_BD is None else self.members_BD[rows],
            positions=self.positions,
            row_B=self.row_B[rows],
            length_B=self.length_B[rows],
        )
