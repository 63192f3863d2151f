"""The call of a batch job, and its report."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recsys.core.errors import CallError


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Which part of the users this job answers: those of parts ``index``, ``index + count``, and so on."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read ``I/N``, counted from 0.

        Raises:
            CallError: it is written otherwise, or I is not below N.
        """
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise CallError(f"--shard must be I/N with I from 0 to N - 1, got {text!r}; 0/4 is the first of four")
        return cls(index=int(index), count=int(count))

    @property
    def suffix(self) -> str:
        """What file names of this shard end with; nothing where it is the only one."""
        return "" if self.count == 1 else f"-{self.index}-of-{self.count}"

    def owns(self, part: int) -> bool:
        """Tell whether a part is this shard's."""
        return part % self.count == self.index


@dataclass(frozen=True, kw_only=True)
class BatchCall:
    """A batch job: ``users`` is a Parquet or CSV file, a folder of such files, or None for all users of the run."""

    run: Path
    users: Path | None
    to: Path
    n: int = 10
    shard: Shard = Shard()

    def resolved(self) -> "BatchCall":
        """Return the same call with absolute paths, which mean the same in every process."""
        users = None if self.users is None else self.users.resolve()
        return replace(self, run=self.run.resolve(), users=users, to=self.to.resolve())


@dataclass(frozen=True, kw_only=True)
class BatchReport:
    """How many users were requested and what became of them, in this shard.

    ``asked`` users are distinct: ``answered`` got items and ``empty`` got none because none was eligible. ``unknown``
    of them are not in the run and were answered like a user without a history. ``duplicates`` are rows of the users
    file that ask for a user again, ``invalid`` rows whose id is null or no id.
    """

    asked: int = 0
    answered: int = 0
    empty: int = 0
    unknown: int = 0
    duplicates: int = 0
    invalid: int = 0
    recommendations: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the report as ``recsys recommend --json`` writes it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def sentence(self, to: Path) -> str:
        """Return the report in words."""
        return (
            f"{self.recommendations:,} recommendations for {self.asked:,} users written to {to} "
            f"({self.answered:,} answered, {self.empty:,} without any eligible item; {self.unknown:,} unknown to the "
            f"run; of the users file {self.duplicates:,} rows asked again and {self.invalid:,} had no id)"
        )
