"""The log of a run as an Arrow file that is mapped into memory, not read into it.

Its pages are read when they are touched, shared by all processes of a machine, and given back when memory is short.
Arrays that are derived from a long log, and as long, lie in unnamed temporary files for the same reason.

Axes: U user, E event.
"""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys.core.arrays import BoolArray, IntArray
from recsys.core.artifacts import atomic_file
from recsys.core.errors import ArtifactError

SCRATCH_BYTES = 1 << 26
"""Arrays from this size on lie in a temporary file."""
_ITEM, _TIME = "item", "timestamp"
_PIECE = 1 << 20


def write_events(path: Path, *, offsets_U1: IntArray, items_E: IntArray, timestamps_E: IntArray) -> None:
    """Write a log as one row a user, with lists of items and times.

    Shape:
        offsets_U1: (users + 1,) start of each user's events. items_E, timestamps_E: (events,).
    """
    offsets = pa.array(offsets_U1)
    columns = {
        name: pa.LargeListArray.from_arrays(offsets, pa.array(values_E))
        for name, values_E in ((_ITEM, items_E), (_TIME, timestamps_E))
    }
    batch = pa.RecordBatch.from_pydict(columns)
    with atomic_file(path) as temporary, pa.ipc.new_file(str(temporary), batch.schema) as writer:
        writer.write_batch(batch)


def map_events(path: Path) -> tuple[IntArray, IntArray, IntArray]:
    """Return the offsets, items and times of a log, as read-only arrays on the mapped file.

    Raises:
        ArtifactError: the file is not what :func:`write_events` wrote.
    """
    try:
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        items, times = batch.column(_ITEM), batch.column(_TIME)
        offsets_U1, *values = (part.to_numpy() for part in (items.offsets, items.values, times.values))
    except (pa.ArrowException, OSError, KeyError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{path} must be the events of a run, got {error}; prepare the data again") from error
    return offsets_U1, values[0], values[1]


def kept(values_E: IntArray, kept_E: BoolArray) -> IntArray:
    """Return the kept values, in an unnamed temporary file where they are many.

    Shape:
        values_E, kept_E: (events,).
    """
    count = int(np.count_nonzero(kept_E))
    if count * values_E.itemsize < SCRATCH_BYTES:
        return values_E[kept_E]
    with tempfile.TemporaryFile() as file:
        found = np.memmap(file, dtype=values_E.dtype, mode="w+", shape=(count,))
    done = 0
    for start in range(0, len(values_E), _PIECE):
        piece = values_E[start : start + _PIECE][kept_E[start : start + _PIECE]]
        found[done : done + len(piece)] = piece
        done += len(piece)
    return found.view(np.ndarray)
