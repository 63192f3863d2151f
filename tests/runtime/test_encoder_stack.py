"""Encoders side by side give the states that each gives alone, whatever its heads, spans, positions and start."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.contracts import History, empty_history
from recsys.core.arrays import FloatArray
from recsys.runtime.encoder import Encoder, encode_last
from recsys.runtime.encoder_stack import EventReader, EventReaders
from recsys.runtime.export import export_generator
from recsys.runtime.weights import GeneratorWeights
from tests.runtime.worlds import ITEMS, history_of, random_generator

WEIGHTS = export_generator(random_generator(share=0.4, seed=2))
LONGEST = 6


def _readers(weights: GeneratorWeights) -> list[EventReader]:
    """Return the history encoder with a start, and the member with positions and without times or a start."""
    own, (member,) = weights.history, weights.members
    timed = EventReader(
        encoder=own.encoder,
        longest=weights.max_history,
        item_ND=own.item_ND,
        span_ZD=own.calendar_in_ED,
        edges_Z=own.calendar_edges_E,
        start_D=own.start_D,
    )
    placed = EventReader(
        encoder=member.encoder, longest=LONGEST, item_ND=member.item_ND, position_TD=member.position_TD
    )
    return [timed, placed]


def _alone(reader: EventReader, history: History) -> FloatArray:
    """Return a reader's state, its start read as a position like all others."""
    encoder: Encoder = reader.encoder
    read = history.last(reader.longest)
    nothing_YOX = np.zeros((len(encoder.query_YDD), 0, encoder.key_value_bias_YX.shape[1]), np.float32)
    lines = [] if reader.start_D is None else [reader.start_D]
    for place, (item, second) in enumerate(zip(read.items, read.timestamps, strict=True)):
        x_D = reader.item_ND[item].copy()
        if len(reader.position_TD):
            x_D += reader.position_TD[place]
        if len(reader.span_ZD):
            x_D += reader.span_ZD[np.searchsorted(reader.edges_Z, second)]
        lines.append(x_D)
    if not lines:
        return np.zeros(reader.item_ND.shape[1], np.float32)
    first_T = read.timestamps[:1] if len(read.items) else np.zeros(1, np.int64)
    seconds_T = read.timestamps if reader.start_D is None else np.concatenate([first_T, read.timestamps])
    return encode_last(np.stack(lines), seconds_T, nothing_YOX, encoder)


@given(
    items=st.lists(st.integers(0, ITEMS - 1), max_size=12),
    gaps=st.lists(st.integers(0, 400), min_size=12, max_size=12),
)
def test_states_when_read_side_by_side_then_they_are_those_of_each_alone(items: list[int], gaps: list[int]) -> None:
    history, readers = history_of(items, gaps), _readers(WEIGHTS)
    for state_D, reader in zip(EventReaders(readers).states(history), readers, strict=True):
        np.testing.assert_allclose(state_D, _alone(reader, history), atol=2e-5)


def test_states_when_shapes_differ_then_they_come_in_the_order_of_the_readers() -> None:
    timed, placed = _readers(WEIGHTS)
    wide = placed.encoder._replace(
        up_YDV=np.repeat(placed.encoder.up_YDV, 2, axis=2),
        up_bias_YV=np.repeat(placed.encoder.up_bias_YV, 2, axis=1),
        down_YVD=np.repeat(placed.encoder.down_YVD / 2, 2, axis=1),
    )  # every hidden number twice, each counting half: the same states from other shapes
    other = EventReader(encoder=wide, longest=LONGEST, item_ND=placed.item_ND, position_TD=placed.position_TD)
    history = history_of([3, 1, 2], [4, 4, 9])
    first, second, third = EventReaders([other, timed, placed]).states(history)
    np.testing.assert_allclose(first, third, atol=2e-5)
    np.testing.assert_allclose(second, _alone(timed, history), atol=2e-5)


def test_states_when_nothing_was_read_then_only_a_start_makes_a_state() -> None:
    readers = _readers(WEIGHTS)
    by_start_D, nothing_D = EventReaders(readers).states(empty_history())
    np.testing.assert_allclose(by_start_D, _alone(readers[0], empty_history()), atol=2e-5)
    assert not nothing_D.any()
