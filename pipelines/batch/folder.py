"""The target folder of a batch job: which job it belongs to, what is done, and when it is complete.

TO/_batch.json                 the job, so that only the same one goes on here
TO/part-00017.parquet          recommendations: user_id, rank, item_id, score
TO/_users/part-00017.parquet   every user of that part once: user_id, known, items; written last, marks it done
TO/_work/                      plan and lock of a job that is not complete
TO/_report.json, TO/_SUCCESS   counts; the mark that all is there (with shards one of each a shard, ``_SUCCESS`` last)

Readers of data sets pass over names that begin with ``_``, so the folder reads as one table of recommendations.
"""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.batch.call import BatchReport, Shard
from pipelines.batch.plan import BatchPlan
from recsys.core.artifacts import write_json
from recsys.core.errors import CallError
from recsys.data import schema
from recsys.data.table import write_parquet

CLAIM: Final = "_batch.json"
SUCCESS: Final = "_SUCCESS"
KNOWN: Final = "known"
ITEMS: Final = "items"
USERS_SCHEMA: Final = pa.schema([(schema.USER, pa.string()), (KNOWN, pa.bool_()), (ITEMS, pa.int32())])

_USERS, _WORK = "_users", "_work"
_DUPLICATES = b"recsys.duplicates"
_SHARD = r"(-\d+-of-\d+)?"
_OURS = re.compile(
    rf"{CLAIM}|{SUCCESS}{_SHARD}|_report{_SHARD}\.json|{_WORK}/shard{_SHARD}/.*|({_USERS}/)?part-\d{{5}}\.parquet"
    rf"|({_USERS}/)?\.(part-\d{{5}}\.parquet|{CLAIM}|_report{_SHARD}\.json)\.[^/]*\.tmp"
)
_LEFT_OVER = re.compile(r"\.part-(\d{5})\.parquet\.[^/]*\.tmp")


class BatchFolder:
    """The target of a batch job and of one shard of it."""

    def __init__(self, to: Path, shard: Shard) -> None:
        self.to = to
        self.shard = shard

    @property
    def work(self) -> Path:
        """A folder of the shard's own for as long as the job is not complete."""
        return self.to / _WORK / f"shard{self.shard.suffix}"

    def claim(self, job: Mapping[str, Any]) -> None:
        """Make the folder this job's, or check that it is.

        Args:
            job: all that the result depends on, as JSON.

        Raises:
            CallError: it is a file, holds files that no batch job made, or the result of another job.
        """
        if self.to.exists() and not self.to.is_dir():
            raise CallError(f"--to must be a folder, got the file {self.to}; choose another name")
        self.to.mkdir(parents=True, exist_ok=True)
        there = [path.relative_to(self.to).as_posix() for path in self.to.rglob("*") if not path.is_dir()]
        claim = self.to / CLAIM
        foreign = sorted(name for name in there if not _OURS.fullmatch(name)) if claim.exists() else sorted(there)
        if foreign:
            raise CallError(
                f"--to must be a new or empty folder, or one of the same job, got {self.to} with {foreign[0]} "
                f"({len(foreign)} such files); choose another folder"
            )
        if not claim.exists():
            write_json(claim, dict(job))
        held = json.loads(claim.read_text(encoding="utf-8"))
        if held != json.loads(json.dumps(job)):
            other = sorted(key for key in {*held, *job} if held.get(key) != job.get(key))
            raise CallError(
                f"--to must be the folder of the same job, got {self.to}, whose {', '.join(other)} differ; "
                f"choose another folder"
            )
        self._remove_left_overs()
        self.work.mkdir(parents=True, exist_ok=True)

    @property
    def complete(self) -> bool:
        """Whether this shard is done."""
        return (self.to / f"{SUCCESS}{self.shard.suffix}").exists()

    def is_done(self, part: int) -> bool:
        """Tell whether a part is written."""
        return self._users_file(part).exists()

    def write_part(self, part: int, recommendations: pa.Table, users: pa.Table, *, duplicates: int) -> None:
        """Write a part: recommendations first, then its users, which marks it done."""
        (self.to / _USERS).mkdir(exist_ok=True)
        write_parquet(recommendations, self.to / f"part-{part:05d}.parquet")
        users = users.replace_schema_metadata({_DUPLICATES: str(duplicates).encode()})
        write_parquet(users, self._users_file(part))

    def finish(self, plan: BatchPlan) -> BatchReport:
        """Write the report of the shard and its mark."""
        report = self._count(plan)
        write_json(self.to / f"_report{self.shard.suffix}.json", report.to_json())
        (self.to / f"{SUCCESS}{self.shard.suffix}").touch()
        return report

    def seal(self) -> None:
        """Where all shards are done, write the last mark and remove the plans."""
        shards = [Shard(index=index, count=self.shard.count) for index in range(self.shard.count)]
        if all((self.to / f"{SUCCESS}{shard.suffix}").exists() for shard in shards):
            shutil.rmtree(self.to / _WORK, ignore_errors=True)
            (self.to / SUCCESS).touch()

    def report(self) -> BatchReport:
        """Return the report of a complete shard."""
        return BatchReport(**json.loads((self.to / f"_report{self.shard.suffix}.json").read_text(encoding="utf-8")))

    def _count(self, plan: BatchPlan) -> BatchReport:
        counts = dict.fromkeys(BatchReport.__dataclass_fields__, 0) | {"invalid": plan.invalid}
        for part in plan.parts:
            with pq.ParquetFile(self._users_file(part)) as file:
                table = file.read([KNOWN, ITEMS])
                counts["duplicates"] += int(file.schema_arrow.metadata[_DUPLICATES])
            empty = int(pc.sum(pc.equal(table[ITEMS], 0)).as_py())
            counts["asked"] += len(table)
            counts["empty"] += empty
            counts["answered"] += len(table) - empty
            counts["unknown"] += int(pc.sum(pc.invert(table[KNOWN])).as_py())
            counts["recommendations"] += int(pc.sum(table[ITEMS]).as_py())
        return BatchReport(**counts)

    def _users_file(self, part: int) -> Path:
        return self.to / _USERS / f"part-{part:05d}.parquet"

    def _remove_left_overs(self) -> None:
        """Remove temporary files that a killed job of this shard left."""
        for path in self.to.rglob(".part-*.tmp"):
            left = _LEFT_OVER.fullmatch(path.name)
            if left is not None and self.shard.owns(int(left[1])):
                path.unlink()
