"""Encoders of one shape, side by side, so that one call of compiled code reads a history by all of them.

Axes: T time, D width, N item, A encoder of a stack, Z span of time, Y layer, X keys and values side by side.
Local: O position before the history.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys.contracts import History
from recsys.core.arrays import BoolArray, FloatArray, IntArray
from recsys.runtime.compiled import aligned, kernel
from recsys.runtime.encoder import Encoder, encode_last, key_values_alone

_Scalar = TypeVar("_Scalar", bound=np.generic)
_NEVER = np.iinfo(np.int64).max


def _none(*shape: int) -> FloatArray:
    return np.zeros(shape, np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class EventReader:
    """An encoder and what it reads of a history: of each event the sum of three vectors.

    Shape:
        item_ND: (items, width). position_TD: (time, width) by an event's place. span_ZD: (spans, width) by its time;
        edges_Z: (spans,) or fewer, the last second of each span but the last.
        start_D: (width,) what is read before all events, by which an empty history has a state.
    """

    encoder: Encoder
    longest: int
    """How many of the last events are read."""
    item_ND: FloatArray
    position_TD: FloatArray = field(default_factory=lambda: _none(0, 0))
    span_ZD: FloatArray = field(default_factory=lambda: _none(0, 0))
    edges_Z: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    start_D: FloatArray | None = None


class EncoderStack(NamedTuple):
    """Readers of one shape.

    Shape:
        starts_A: (encoders,) whether something is read before all events; before_AYOX: its keys and values.
        heads_A: (encoders,); encoder: every array has one axis more, the first.
    """

    item_AND: FloatArray
    position_ATD: FloatArray
    span_AZD: FloatArray
    edges_AZ: IntArray
    start_AD: FloatArray
    starts_A: BoolArray
    before_AYOX: FloatArray
    longest_A: IntArray
    heads_A: IntArray
    encoder: Encoder


def stack(readers: Sequence[EventReader]) -> EncoderStack:
    """Return readers side by side; what one has less of (heads, spans, positions) is filled up and never read."""
    width, layers = readers[0].item_ND.shape[1], len(readers[0].encoder.query_YDD)
    no_keys_YOX = _none(layers, 1, 2 * width)
    starts = [reader.start_D for reader in readers]
    before = [
        no_keys_YOX if start_D is None else key_values_alone(start_D, reader.encoder)
        for start_D, reader in zip(starts, readers, strict=True)
    ]
    fields: dict[str, Any] = {
        name: _side_by_side([getattr(one.encoder, name) for one in readers]) for name in Encoder._fields
    }
    return EncoderStack(
        item_AND=_side_by_side([reader.item_ND for reader in readers]),
        position_ATD=_side_by_side([_whole(reader.position_TD, reader.longest, width) for reader in readers]),
        span_AZD=_side_by_side([_whole(reader.span_ZD, len(reader.edges_Z) + 1, width) for reader in readers]),
        edges_AZ=_side_by_side([reader.edges_Z for reader in readers], fill=_NEVER),
        start_AD=np.stack([_none(width) if start_D is None else start_D for start_D in starts]),
        starts_A=np.array([start_D is not None for start_D in starts]),
        before_AYOX=np.stack(before),
        longest_A=np.array([reader.longest for reader in readers], np.int64),
        heads_A=np.array([len(reader.encoder.position_bias_HT) for reader in readers], np.int64),
        encoder=Encoder(**fields),
    )


def _whole(lines_XD: FloatArray, lines: int, width: int) -> FloatArray:
    """Return so many lines, zeros where there are none."""
    return lines_XD if lines_XD.size else _none(lines, width)


def _side_by_side(arrays: Sequence[NDArray[_Scalar]], *, fill: int = 0) -> NDArray[_Scalar]:
    """Return arrays along a new first axis, each filled up to the longest of every other."""
    shape = tuple(np.max([array.shape for array in arrays], axis=0).tolist())
    joined = np.full((len(arrays), *shape), fill, arrays[0].dtype)
    for own, array in zip(joined, arrays, strict=True):
        own[tuple(slice(length) for length in array.shape)] = array
    return aligned(joined)


@kernel
def encode_history(items_T: IntArray, seconds_T: IntArray, stack: EncoderStack) -> FloatArray:
    """Return every encoder's state after the last event, (encoders, width); zeros where none is read at all.

    Shape:
        items_T, seconds_T: (time,).
    """
    encoders, _, width = stack.item_AND.shape
    state_AD = np.zeros((encoders, width), np.float32)
    for at in range(encoders):
        first = max(0, len(items_T) - stack.longest_A[at])
        encoder = _one(stack.encoder, at, stack.heads_A[at])
        before = 1 if stack.starts_A[at] else 0
        if first < len(items_T):
            x_TD = _inputs(items_T[first:], seconds_T[first:], stack, at)
            state_AD[at] = encode_last(x_TD, seconds_T[first:], stack.before_AYOX[at, :, :before], encoder)
        elif before:
            x_TD = stack.start_AD[at].copy().reshape(1, -1)
            state_AD[at] = encode_last(x_TD, np.zeros(1, np.int64), stack.before_AYOX[at, :, :0], encoder)
    return state_AD


@kernel
def _inputs(items_T: IntArray, seconds_T: IntArray, stack: EncoderStack, at: int) -> FloatArray:
    """Return what an encoder reads of each event."""
    x_TD = np.empty((len(items_T), stack.item_AND.shape[2]), np.float32)
    for place in range(len(items_T)):
        item_D, position_D = stack.item_AND[at, items_T[place]], stack.position_ATD[at, place]
        span_D = stack.span_AZD[at, np.searchsorted(stack.edges_AZ[at], seconds_T[place])]
        x_D = x_TD[place]
        for column in range(len(x_D)):
            x_D[column] = item_D[column] + span_D[column] + position_D[column]
    return x_TD


@kernel
def _one(stacked: Encoder, at: int, heads: int) -> Encoder:
    """Return one encoder of a stack."""
    return Encoder(
        stacked.query_YDD[at],
        stacked.query_bias_YD[at],
        stacked.key_value_YDX[at],
        stacked.key_value_bias_YX[at],
        stacked.out_YDD[at],
        stacked.out_bias_YD[at],
        stacked.attention_scale_YD[at],
        stacked.attention_shift_YD[at],
        stacked.up_YDV[at],
        stacked.up_bias_YV[at],
        stacked.down_YVD[at],
        stacked.down_bias_YD[at],
        stacked.feed_scale_YD[at],
        stacked.feed_shift_YD[at],
        stacked.final_scale_D[at],
        stacked.final_shift_D[at],
        stacked.position_bias_HT[at, :heads],
        stacked.gap_bias_HZ[at, :heads],
        stacked.gap_seconds_Z[at],
    )


class EventReaders:
    """Readers of any shapes, each shape in a stack of its own."""

    def __init__(self, readers: Sequence[EventReader]) -> None:
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for place, reader in enumerate(readers):
            by_shape.setdefault((*reader.encoder.up_YDV.shape, len(reader.item_ND)), []).append(place)
        self._count = len(readers)
        self._stacks = [(places, stack([readers[place] for place in places])) for places in by_shape.values()]

    def states(self, history: History) -> list[FloatArray]:
        """Return each reader's state after a history, in their order, (width,) each."""
        found: dict[int, FloatArray] = {}
        for places, own in self._stacks:
            found |= zip(places, encode_history(history.items, history.timestamps, own), strict=True)
        return [found[place] for place in range(self._count)]
