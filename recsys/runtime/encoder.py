"""The causal pre-norm Transformer encoder of one history: its state after the last event, and nothing else.

All layers but the last run for every position; the last one computes keys and values of all positions, but queries,
attention and feed-forward of the last position alone. What a model reads before every history is no position of its
own: nothing reads it but through its keys and values, which are the same in all histories.

Axes: Y layer, T time, D width, H head, X keys and values side by side, V feed-forward width, Z bucket of time gaps.
Local: O position before the history (one or none).
"""

from typing import NamedTuple

import numpy as np

from recsys.core.arrays import FloatArray, IntArray
from recsys.runtime.compiled import kernel
from recsys.runtime.functions import exponential, gelu

_EPSILON = np.float32(1e-5)
"""Added to variances by layer norms, as torch does by default."""


class Encoder(NamedTuple):
    """The weights of an encoder; matrices have one column an output.

    An encoder without biases by time has no buckets (Z is 0); the number of heads is that of the lines of biases.
    """

    query_YDD: FloatArray
    query_bias_YD: FloatArray
    key_value_YDX: FloatArray
    key_value_bias_YX: FloatArray
    out_YDD: FloatArray
    out_bias_YD: FloatArray
    attention_scale_YD: FloatArray
    attention_shift_YD: FloatArray
    up_YDV: FloatArray
    up_bias_YV: FloatArray
    down_YVD: FloatArray
    down_bias_YD: FloatArray
    feed_scale_YD: FloatArray
    feed_shift_YD: FloatArray
    final_scale_D: FloatArray
    final_shift_D: FloatArray
    position_bias_HT: FloatArray
    """By how many positions an event lies before the one that reads it."""
    gap_bias_HZ: FloatArray
    gap_seconds_Z: IntArray
    """The least gap, in seconds, of each bucket but the first."""


@kernel
def encode_last(x_TD: FloatArray, seconds_T: IntArray, before_YOX: FloatArray, encoder: Encoder) -> FloatArray:
    """Return the state of the last of some inputs, after the final norm, (width,).

    Shape:
        x_TD: (time, width), at least one line; seconds_T: (time,). before_YOX: (layers, 1 or 0, keys and values) of
            what is read before, at the time of the first input.
    """
    last = len(x_TD) - 1
    layers = len(encoder.query_YDD)
    bias_HTT = _bias(seconds_T, before_YOX.shape[1], encoder)
    for layer in range(layers - 1):
        x_TD = _layer(x_TD, 0, bias_HTT, _key_values(x_TD, before_YOX[layer], encoder, layer), encoder, layer)
    last_layer = layers - 1
    key_value_TX = _key_values(x_TD, before_YOX[last_layer], encoder, last_layer)
    x_TD = _layer(x_TD, last, bias_HTT, key_value_TX, encoder, last_layer)
    return _normed(x_TD, encoder.final_scale_D, encoder.final_shift_D)[0]


@kernel
def key_values_alone(x_D: FloatArray, encoder: Encoder) -> FloatArray:
    """Return the keys and values that an input with nothing before it has in every layer, (layers, 1, X)."""
    layers, width = encoder.key_value_bias_YX.shape
    found_YOX = np.empty((layers, 1, width), np.float32)
    nothing_OX = np.empty((0, width), np.float32)
    no_bias_HTT = np.zeros((len(encoder.position_bias_HT), 1, 1), np.float32)
    x_TD = x_D.copy().reshape(1, -1)
    for layer in range(layers):
        found_YOX[layer] = _key_values(x_TD, nothing_OX, encoder, layer)
        x_TD = _layer(x_TD, 0, no_bias_HTT, found_YOX[layer], encoder, layer)
    return found_YOX


@kernel
def _bias(seconds_T: IntArray, before: int, encoder: Encoder) -> FloatArray:
    """Return what each head adds to the attention of one position to an earlier one, by distance and time gap.

    Shape:
        result: (heads, time, before + time).
    """
    heads, time = len(encoder.position_bias_HT), len(seconds_T)
    bias_HTT = np.zeros((heads, time, before + time), np.float32)
    if encoder.gap_bias_HZ.shape[1] == 0:
        return bias_HTT
    for late in range(time):
        for early in range(before + late + 1):
            gap = abs(seconds_T[late] - seconds_T[max(early - before, 0)])
            bucket = np.searchsorted(encoder.gap_seconds_Z, gap, side="right")
            for head in range(heads):
                by_distance = encoder.position_bias_HT[head, before + late - early]
                bias_HTT[head, late, early] = by_distance + encoder.gap_bias_HZ[head, bucket]
    return bias_HTT


@kernel
def _key_values(x_TD: FloatArray, before_OX: FloatArray, encoder: Encoder, layer: int) -> FloatArray:
    """Return a layer's keys and values, those of what is read before first."""
    before = len(before_OX)
    key_value_TX = np.empty((before + len(x_TD), before_OX.shape[1]), np.float32)
    key_value_TX[:before] = before_OX
    normed_TD = _normed(x_TD, encoder.attention_scale_YD[layer], encoder.attention_shift_YD[layer])
    key_value_TX[before:] = linear(normed_TD, encoder.key_value_YDX[layer], encoder.key_value_bias_YX[layer])
    return key_value_TX


@kernel
def _layer(
    x_TD: FloatArray, first: int, bias_HTT: FloatArray, key_value_TX: FloatArray, encoder: Encoder, layer: int
) -> FloatArray:
    """Return a layer's output at the positions from ``first`` on."""
    normed_TD = _normed(x_TD[first:], encoder.attention_scale_YD[layer], encoder.attention_shift_YD[layer])
    query_TD = linear(normed_TD, encoder.query_YDD[layer], encoder.query_bias_YD[layer])
    mixed_TD = _attend(query_TD, key_value_TX, bias_HTT, first)
    x_TD = x_TD[first:] + linear(mixed_TD, encoder.out_YDD[layer], encoder.out_bias_YD[layer])
    normed_TD = _normed(x_TD, encoder.feed_scale_YD[layer], encoder.feed_shift_YD[layer])
    hidden_TV = linear(normed_TD, encoder.up_YDV[layer], encoder.up_bias_YV[layer])
    gelu(hidden_TV)
    return x_TD + linear(hidden_TV, encoder.down_YVD[layer], encoder.down_bias_YD[layer])


@kernel
def linear(x_TD: FloatArray, weight_DX: FloatArray, bias_X: FloatArray) -> FloatArray:
    """Return ``x_TD @ weight_DX + bias_X``."""
    y_TX = np.dot(x_TD, weight_DX)
    for y_X in y_TX:
        for at in range(len(y_X)):
            y_X[at] += bias_X[at]
    return y_TX


@kernel
def _normed(x_TD: FloatArray, scale_D: FloatArray, shift_D: FloatArray) -> FloatArray:
    """Return every line less its mean, over its standard deviation, times a scale, plus a shift."""
    normed_TD = np.empty_like(x_TD)
    width = np.float32(x_TD.shape[1])
    for line in range(len(x_TD)):
        x_D, normed_D = x_TD[line], normed_TD[line]
        total = np.float32(0.0)
        for at in range(len(x_D)):
            total += x_D[at]
        mean = total / width
        squares = np.float32(0.0)
        for at in range(len(x_D)):
            squares += (x_D[at] - mean) * (x_D[at] - mean)
        factor = np.float32(1.0) / np.sqrt(squares / width + _EPSILON)
        for at in range(len(x_D)):
            normed_D[at] = (x_D[at] - mean) * factor * scale_D[at] + shift_D[at]
    return normed_TD


@kernel
def _attend(query_TD: FloatArray, key_value_TX: FloatArray, bias_HTT: FloatArray, first: int) -> FloatArray:
    """Return the mixed values of the positions from ``first`` on; each reads itself and what is before it."""
    heads, width = len(bias_HTT), query_TD.shape[1]
    before = bias_HTT.shape[2] - bias_HTT.shape[1]
    size = width // heads
    root = np.float32(1.0 / np.sqrt(size))
    mixed_TD = np.zeros_like(query_TD)
    weight_T = np.empty(len(key_value_TX), np.float32)
    for line in range(len(query_TD)):
        position = first + line
        for head in range(heads):
            start = head * size
            query = query_TD[line, start : start + size]
            best = np.float32(-np.inf)
            for early in range(before + position + 1):
                key = key_value_TX[early, start : start + size]
                product = np.float32(0.0)
                for at in range(size):
                    product += query[at] * key[at]
                weight_T[early] = product * root + bias_HTT[head, position, early]
                best = max(best, weight_T[early])
            total = np.float32(0.0)
            for early in range(before + position + 1):
                weight_T[early] = exponential(weight_T[early] - best)
                total += weight_T[early]
            mixed = mixed_TD[line, start : start + size]
            for early in range(before + position + 1):
                share = weight_T[early] / total
                value = key_value_TX[early, width + start : width + start + size]
                for at in range(size):
                    mixed[at] += share * value[at]
    return mixed_TD
