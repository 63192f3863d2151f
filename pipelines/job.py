"""What a stage is handed, and what a stage is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipelines.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Job:
    """One execution of a stage: where it reads, where it writes, and its settings."""

    run: Path
    """The run folder; finished stages are read from here."""
    out: Path
    """An empty folder to write into; it takes its final name when the stage succeeds."""
    source: Path
    """The data set in the data contract."""
    recipe: Recipe
    """The resolved recipe."""
    checkpoints: Path
    """A folder that survives a kill, for the checkpoints of this very job."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A named step of the flow: its work, the stages it reads and the recipe sections it depends on."""

    name: str
    work: Callable[[Job], None]
    parents: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    reads_source: bool = False
