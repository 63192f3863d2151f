"""The manifest's record of each stage that ran: its inputs, its files, and the time and memory it took."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from recsys.core.artifacts import Manifest

_DEFAULTS = (("workers", 1), ("folder", ""))


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """A finished stage."""

    key: str
    """The hash of all that its result depends on."""
    files: Mapping[str, str]
    """The SHA-256 of every file it left."""
    folder: str = ""
    """The folder of the run in which they lie; empty stands for one that is named as the stage."""
    parents: tuple[str, ...] = ()
    seed: int = 0
    arithmetic: str = "float32"
    """The type of the softmax's matrix products where the stage trains with it, else float32."""
    workers: int = 1
    """How many processes trained together; processor seconds and memory are the sums over them."""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_mb: int = 0
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds that the stage measured inside."""
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the record as the manifest keeps it: newer fields are left out where they are the default."""
        return {name: value for name, value in asdict(self).items() if (name, value) not in _DEFAULTS}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "StageRecord":
        """Read what :meth:`to_json` wrote, or an earlier version, which kept less."""
        known = {item.name: entry[item.name] for item in fields(cls) if item.name in entry}
        return cls(**known | {"parents": tuple(entry.get("parents", ()))})


def read_records(run: Path) -> dict[str, StageRecord]:
    """Return what a run's manifest keeps of stages, by their names."""
    return {name: StageRecord.from_json(entry) for name, entry in Manifest(run).read().items() if "files" in entry}
