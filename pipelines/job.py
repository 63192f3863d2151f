"""What a stage is, and what it is handed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.declared import declared
from pipelines.recipe import Recipe
from pipelines.record import StageRecord
from pipelines.store import RunStore
from recsys.core.errors import UndeclaredError

REPORTS = "reports"
"""The folder of the run that stages with named files share."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One execution of a stage: what it may read, where it writes, and its part of the recipe."""

    stage: "Stage"
    """What is executed."""
    run: Path
    """The run folder; stages read it through :meth:`parent`."""
    out: Path
    """An empty folder to write into; what it holds takes its place when the stage succeeds."""
    data_set: Path
    """The data set in the data contract; stages read it through :attr:`source`."""
    resolved: Recipe
    """The whole recipe; stages read it through :attr:`recipe`."""
    checkpoints: Path
    """A folder that survives a kill, for the checkpoints of this very job."""
    records: Mapping[str, StageRecord] = field(default_factory=dict)
    """What finished stages took, for reports; no artifact may depend on it."""
    store: RunStore | None = None
    """Where the run is kept when ``run`` is a working copy of it."""
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds that the stage measured inside, kept in the manifest beside its own."""

    @property
    def recipe(self) -> Recipe:
        """The declared part of the recipe; reading more raises UndeclaredError."""
        return declared(self.resolved, self.stage.name, self.stage.sections)

    @property
    def source(self) -> Path:
        """The data set, for stages that declare that they read it."""
        if not self.stage.reads_source:
            raise UndeclaredError(f"stage {self.stage.name} must declare reads_source to read the data set")
        return self.data_set

    def parent(self, name: str) -> Path:
        """Return the folder of a stage that this one declares as a parent."""
        if name not in self.stage.parents:
            raise UndeclaredError(
                f"stage {self.stage.name} must declare the stages it reads, got a read of {name}; "
                "add it to the parents of the stage in pipelines/flow.py"
            )
        return self.run / name


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A named step of the flow: its work, the stages it reads and the recipe sections it depends on."""

    name: str
    work: Callable[[Job], None]
    parents: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    """Sections of the recipe, or single settings as ``section.key``."""
    reads_source: bool = False
    by_workers: bool = False
    """Whether it trains networks that several workers can train together (``workers`` in the recipe)."""
    files: tuple[str, ...] = ()
    """Files that go into the shared folder ``reports``; none means a folder of the stage's own."""

    def folder(self, run: Path) -> Path:
        """Return where the stage's result lies in a run."""
        return run / (REPORTS if self.files else self.name)
