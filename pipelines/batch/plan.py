"""The plan of a batch job: requested users spread over parts, each written to a file of its own.

A part holds known users whose rows in the run are near each other, so that their histories are read fast, and some of
the unknown users. The part of a user depends on nothing but the user and the number of parts; a user given twice is in
one part twice, where the second time is counted and left out.

Axes: V row of the users file.
"""

import json
import shutil
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.batch.call import BatchCall, Shard
from pipelines.batch.users import user_columns, user_files
from recsys.core.arrays import IntArray
from recsys.core.artifacts import write_json
from recsys.data import schema
from recsys.data.ids import read_ids
from recsys.data.prepare import USERS
from recsys.data.table import read_parquet
from recsys.data.vocabulary import UNKNOWN, Vocabulary

PART_USERS: Final = 4096
"""Users of a part, as far as there are at most MAX_PARTS parts."""
MAX_PARTS: Final = 512
"""All parts are open files while a job is planned."""
ROW: Final = "row"

_ASKED = pa.schema([(schema.USER, pa.string()), (ROW, pa.int64())])
_DONE = "plan.json"


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """The parts of a shard that have users, where these are named, and how many rows of the users file have no id."""

    folder: Path
    parts: tuple[int, ...]
    invalid: int

    def asked_file(self, part: int) -> Path:
        """Return the file with the users of a part: their ids as text, and their rows in the run."""
        return self.folder / f"asked-{part:05d}.parquet"


def make_plan(call: BatchCall, folder: Path) -> BatchPlan:
    """Return the plan in a folder, made first if it is not there; a plan that was cut short is made again."""
    done = folder / _DONE
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        parts, invalid = _spread(call, folder)
        write_json(done, {"parts": parts, "invalid": invalid})
    content = json.loads(done.read_text(encoding="utf-8"))
    return BatchPlan(folder=folder, parts=tuple(content["parts"]), invalid=content["invalid"])


def _spread(call: BatchCall, folder: Path) -> tuple[list[int], int]:
    """Write one file for every part of the shard that has users; returns the parts and how many rows had no id."""
    users = Vocabulary(read_parquet(call.run / "data" / USERS)[schema.USER])
    files = user_files(call.users if call.users is not None else call.run / "data" / USERS)
    count = _count_parts(sum(len(column) for file in files for column in user_columns(file)), call.shard)
    width = max(1, -(-len(users) // count))
    invalid = 0
    with ExitStack() as stack:
        writers: dict[int, pq.ParquetWriter] = {}
        for table, rows_V in _requested(files, users):
            invalid += table[schema.USER].null_count
            part_V = _parts(table[schema.USER], rows_V, width=width, count=count)
            for part, chunk in _split(table, part_V, call.shard):
                if part not in writers:
                    path = folder / f"asked-{part:05d}.parquet"
                    writers[part] = stack.enter_context(pq.ParquetWriter(path, _ASKED))
                writers[part].write_table(chunk)
    return sorted(writers), invalid


def _count_parts(rows: int, shard: Shard) -> int:
    return max(shard.count, min(-(-rows // PART_USERS), MAX_PARTS), 1)


def _requested(files: list[Path], users: Vocabulary) -> Iterator[tuple[pa.Table, IntArray]]:
    for file in files:
        for column in user_columns(file):
            texts = read_ids(column, f"{file}: column {schema.USER}").texts
            rows_V = users.rows_of(texts, str(file))
            yield pa.table([texts, pa.array(rows_V)], schema=_ASKED), rows_V


def _parts(texts: pa.ChunkedArray, rows_V: IntArray, *, width: int, count: int) -> IntArray:
    """Return the part of each row, -1 where there is no id; shape (rows,)."""
    part_V = np.where(rows_V == UNKNOWN, -1, rows_V // width)
    for place in np.flatnonzero(rows_V == UNKNOWN).tolist():
        text = texts[place].as_py()
        if text is not None:
            part_V[place] = zlib.crc32(text.encode()) % count
    return part_V


def _split(table: pa.Table, part_V: IntArray, shard: Shard) -> Iterator[tuple[int, pa.Table]]:
    """Yield each part of the shard with its rows, in the order of the table."""
    order_V = np.argsort(part_V, kind="stable")
    ordered, sorted_V = table.take(pa.array(order_V)), part_V[order_V]
    parts, starts = np.unique(sorted_V, return_index=True)
    stops = [*starts[1:].tolist(), len(sorted_V)]
    for part, start, stop in zip(parts.tolist(), starts.tolist(), stops, strict=True):
        if part >= 0 and shard.owns(part):
            yield part, ordered.slice(start, stop - start)
