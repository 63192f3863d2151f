"""The weights of a generator as the runtime reads them, and their files.

config.json          format, sizes
weights.safetensors  one array a field, named by its place (``own.encoder.up_YDV``)

Axes: N item, T time, D width, M codebook, K code, Q category, E event of training, W code width, V hidden width of the
token decoder.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys.core.arrays import FloatArray, IntArray
from recsys.core.errors import ArtifactError
from recsys.runtime.encoder import Encoder
from recsys.runtime.files import REMEDY, read_folder, write_folder
from recsys.runtime.head import ItemTable, Prior

FORMAT = 2
"""Raised when the files change their meaning."""

_Parts = TypeVar("_Parts", bound=NamedTuple)


class HistoryWeights(NamedTuple):
    """The history encoder: its inputs, its layers, and what turns its state into a query.

    Shape:
        item_ND: (items, width) what an item is to the encoder. start_D: (width,) what is read before the first item.
        calendar_in_ED, calendar_out_ED: one line a span of time, and one for "no event" behind them.
        calendar_edges_E: the last second of each span but the last. scale: one number, the length of queries.
    """

    item_ND: FloatArray
    start_D: FloatArray
    calendar_in_ED: FloatArray
    calendar_out_ED: FloatArray
    calendar_edges_E: IntArray
    scale: FloatArray
    encoder: Encoder


class MemberWeights(NamedTuple):
    """An ensemble member: its inputs and layers; one number each for how its state becomes a query.

    Shape:
        item_ND: (items, width). position_TD: (time, width). scale: the length of queries, 0 where it is the state's;
        share: what its logits count.
    """

    item_ND: FloatArray
    position_TD: FloatArray
    scale: FloatArray
    share: FloatArray
    encoder: Encoder


class TokenDecoderWeights(NamedTuple):
    """The any-order token decoder; matrices have one column an output."""

    code_KW: FloatArray
    state_DV: FloatArray
    state_bias_V: FloatArray
    codes_XV: FloatArray
    used_MV: FloatArray
    hidden_VD: FloatArray
    hidden_bias_D: FloatArray
    scale_D: FloatArray
    shift_D: FloatArray
    token_DK: FloatArray
    token_bias_K: FloatArray
    category_DQ: FloatArray
    category_bias_Q: FloatArray


class GeneratorWeights(NamedTuple):
    """All that scores items and steps after a history."""

    history: HistoryWeights
    members: tuple[MemberWeights, ...]
    decoder: TokenDecoderWeights
    table: ItemTable
    prior: Prior
    max_history: int
    num_codebooks: int


def save_weights(weights: GeneratorWeights, folder: Path) -> None:
    """Write the weights into a new folder."""
    sizes = {"max_history": weights.max_history, "num_codebooks": weights.num_codebooks}
    write_folder(folder, {"members": len(weights.members), **sizes}, flat(weights), form=FORMAT)


def load_weights(folder: Path) -> GeneratorWeights:
    """Read what :func:`save_weights` wrote.

    Raises:
        ArtifactError: a file is missing, unreadable, of another format, or holds arrays that do not belong together.
    """
    config, arrays = read_folder(folder, form=FORMAT)
    try:
        weights = GeneratorWeights(
            history=nested(HistoryWeights, arrays, "history"),
            members=tuple(nested(MemberWeights, arrays, f"members.{at}") for at in range(config["members"])),
            decoder=nested(TokenDecoderWeights, arrays, "decoder"),
            table=nested(ItemTable, arrays, "table"),
            prior=nested(Prior, arrays, "prior"),
            max_history=int(config["max_history"]),
            num_codebooks=int(config["num_codebooks"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{folder} must hold the weights of a runtime, got {error!r}; {REMEDY}") from error
    require_inside(weights)
    return weights


def require_inside(weights: GeneratorWeights) -> None:
    """Refuse a prior whose entries point outside the catalogue: compiled code does not look.

    Raises:
        ArtifactError: an index is out of range, or starts do not rise.
    """
    prior, items = weights.prior, len(weights.table.keys_ND)
    starts = prior.starts_JN1
    rising = bool((np.diff(starts, axis=1) >= 0).all()) if starts.size else True
    whole = not starts.size or bool(starts.min() >= 0 and starts.max() <= len(prior.items_X) == len(prior.values_X))
    inside = not len(prior.items_X) or bool(prior.items_X.min() >= 0 and prior.items_X.max() < items)
    alike = all(len(table) == items for table in (weights.history.item_ND, weights.table.bias_N))
    if not (rising and whole and inside and alike and starts.shape[1] == items + 1):
        raise ArtifactError(
            f"the tables of a runtime must be of its {items} items, got indices or sizes beyond them; {REMEDY}"
        )


def flat(parts: Any, prefix: str = "") -> dict[str, NDArray[Any]]:
    """Return all arrays of nested tuples by their places, each behind a prefix."""
    found: dict[str, NDArray[Any]] = {}
    named = parts._asdict() if hasattr(parts, "_asdict") else {str(at): part for at, part in enumerate(parts)}
    for name, value in named.items():
        if isinstance(value, np.ndarray):
            found[prefix + name] = value
        elif isinstance(value, tuple):
            found |= flat(value, f"{prefix}{name}.")
    return found


def nested(kind: Callable[..., _Parts], arrays: Mapping[str, NDArray[Any]], place: str) -> _Parts:
    """Return a tuple of this kind from the arrays below a place."""
    fields: tuple[str, ...] = vars(kind)["_fields"]
    values = {
        name: nested(Encoder, arrays, f"{place}.{name}") if name == "encoder" else arrays[f"{place}.{name}"]
        for name in fields
    }
    return kind(**values)
