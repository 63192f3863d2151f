"""The blocks that come with the items: the columns named ``vector_*``, e.g. of images.

Axes: N item, F feature.
"""

import numpy as np
import pyarrow as pa

from recsys.core.arrays import FloatArray
from recsys.core.errors import DataError
from recsys.features.reduction import l2_rows


def given_vectors(items: pa.Table, name: str, *, width: int | None = None) -> FloatArray:
    """Return a column of vectors as unit rows, shape (items, its width); missing vectors are zeros.

    Args:
        items: the items.
        name: the column; with a ``width`` it may be absent, or all null.
        width: what the vectors' width must be; None takes the one they have.

    Raises:
        DataError: the widths differ, or a number is not finite.
    """
    rows = items[name].to_pylist() if name in items.column_names or width is None else [None] * items.num_rows
    widths = sorted({len(row) for row in rows if row is not None})
    if width is None and len(widths) != 1:
        raise DataError(
            f"items.{name} must hold vectors of one width, got widths {widths}; write it as a fixed-size list"
        )
    wanted = widths[0] if width is None else width
    if widths not in ([], [wanted]):
        raise DataError(
            f"items.{name} must hold vectors of width {wanted}, as the training items do, got widths {widths}; "
            f"make them with the same model, or train again"
        )
    vectors_NF = np.array([row if row is not None else [0.0] * wanted for row in rows], np.float32)
    vectors_NF = vectors_NF.reshape(len(rows), wanted)
    if not np.isfinite(vectors_NF).all():
        row = int(np.flatnonzero(~np.isfinite(vectors_NF).all(axis=1))[0])
        raise DataError(f"items.{name} must be finite, got NaN or infinity in row {row}; repair or null that vector")
    return l2_rows(vectors_NF)
