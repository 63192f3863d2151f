"""Event weights: the weight of an event's type times its own, and which events count as likes.

Axes: E event.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.core.arrays import BoolArray, Float64Array
from recsys.core.errors import ConfigError
from recsys.data import schema

NO_LIKES: Final = frozenset(
    [
        *("impression", "impressions", "exposure", "exposed", "shown", "display", "view_impression", "no_click"),
        *("dislike", "disliked", "hate", "hide", "skip", "skipped", "downvote", "thumbs_down", "thumbdown", "report"),
        *("not_interested", "unlike", "unfollow", "unsubscribe", "block", "remove", "remove_from_cart", "return"),
        *("returned", "refund", "cancel", "negative"),
    ]
)
"""Event types that are no likes unless a recipe gives them a weight; capitals, blanks and dashes do not count."""


def event_weights(rows: pa.Table, types: Mapping[str, float]) -> Float64Array:
    """Return what each event counts: the weight of its type times its own ``weight`` (1 where it has none).

    Args:
        rows: interactions in the contract.
        types: the weight of each event type that is used; a type not named counts 0. Empty: every type counts 1 except
            :data:`NO_LIKES`.

    Shape:
        returns: (events,) float64.
    """
    weight_E: Float64Array = np.ones(rows.num_rows)
    if schema.WEIGHT in rows.column_names:
        weight_E = np.asarray(pc.fill_null(rows[schema.WEIGHT], 1.0).to_numpy(), dtype=np.float64)
    if schema.EVENT_TYPE not in rows.column_names:
        if types:
            raise ConfigError(
                f"event_weights must be unset for a log without an 'event_type' column, got {dict(types)}; remove it"
            )
        return weight_E
    encoded = rows[schema.EVENT_TYPE].combine_chunks().dictionary_encode(null_encoding="encode")
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    names = encoded.dictionary.to_pylist()
    if types and (unknown := sorted(set(types) - set(names))):
        raise ConfigError(
            f"event_weights must name event types of the log ({_shown(names)}), got {unknown[0]!r}; mend it"
        )
    known = np.array([_type_weight(name, types) for name in names], dtype=np.float64)
    return weight_E * known[encoded.indices.to_numpy(zero_copy_only=False)]


def counts_by_type(rows: pa.Table, left_out_E: BoolArray) -> dict[str, int]:
    """Return how many events of each type are left out; events without a type are counted as ``no type``."""
    if schema.EVENT_TYPE not in rows.column_names:
        return {"weight": int(left_out_E.sum())} if left_out_E.any() else {}
    counted = pc.value_counts(rows[schema.EVENT_TYPE].filter(pa.array(left_out_E))).to_pylist()
    return {"no type" if entry["values"] is None else entry["values"]: entry["counts"] for entry in counted}


def event_types_note(types: pa.ChunkedArray) -> str:
    """Return which event types a log has and which of them are no likes unless a recipe gives them a weight."""
    counted = sorted(pc.value_counts(types).to_pylist(), key=lambda entry: -entry["counts"])
    listed = ", ".join(f"{entry['values'] or 'no type'} {entry['counts']:,}" for entry in counted[:10])
    no_likes = [entry["values"] for entry in counted if _type_weight(entry["values"], {}) == 0]
    left = f"; no likes unless data.event_weights says so: {', '.join(no_likes[:10])}" if no_likes else ""
    return f"event types: {listed}{', ...' if len(counted) > 10 else ''}{left}"


def _type_weight(name: str | None, types: Mapping[str, float]) -> float:
    if types:
        return 0.0 if name is None else types.get(name, 0.0)
    plain = "" if name is None else name.strip().casefold().replace(" ", "_").replace("-", "_")
    return 0.0 if plain in NO_LIKES else 1.0


def _shown(names: list[str | None]) -> str:
    return ", ".join(sorted(name for name in names if name is not None)[:10])
