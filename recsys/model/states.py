"""What encoding histories returns: the history encoder's states, the ensemble member's, and all positions.

Axes: B batch row, T time, D width.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PrefixStates:
    """The states of histories after every prefix: entry t has seen the first t items.

    Shape:
        own_BTD: (batch, time + 1, width) the history encoder's.
        member_BTD: (batch, time + 1, member width) the ensemble member's, None without a member.
    """

    own_BTD: Tensor
    member_BTD: Tensor | None

    def after(self, row_B: Tensor, length_B: Tensor) -> "HistoryStates":
        """Return the states of some prefixes.

        Shape:
            row_B: (states,) which history; length_B: (states,) how many of its items are seen.
        """
        return HistoryStates(
            own_BD=self.own_BTD[row_B, length_B],
            member_BD=None if self.member_BTD is None else self.member_BTD[row_B, length_B],
            positions=self,
            row_B=row_B,
            length_B=length_B,
        )


@dataclass(frozen=True, kw_only=True)
class HistoryStates:
    """One state a history, and all positions that were encoded on the way.

    Shape:
        own_BD: (batch, width) the history encoder's state.
        member_BD: (batch, member width) the ensemble member's state, None without a member.
        positions: the states after every prefix of the histories that were encoded together.
        row_B: (batch,) each state's row in ``positions``.
        length_B: (batch,) how many items each state has seen; it may read positions 0 to ``length_B``.
    """

    own_BD: Tensor
    member_BD: Tensor | None
    positions: PrefixStates
    row_B: Tensor
    length_B: Tensor

    def __len__(self) -> int:
        return len(self.own_BD)

    def take(self, rows: slice | Tensor) -> "HistoryStates":
        """Return some of the states: a slice, or their numbers."""
        return HistoryStates(
            own_BD=self.own_BD[rows],
            member_BD=None if self.member_BD is None else self.member_BD[rows],
            positions=self.positions,
            row_B=self.row_B[rows],
            length_B=self.length_B[rows],
        )
