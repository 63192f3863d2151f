"""What people see while stages run: one live display on a terminal, plain log lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bars,
)
from rich.table import Column
from rich.text import Text

from recsys.core.telemetry import LOG, WorkProgress, listening

_LINE_EVERY_SECONDS = 15.0


class Display(Protocol):
    """Shows what stages do; stages may overlap."""

    def expect(self, stages: int) -> None:
        """Say how many stages are to come."""

    def begin(self, stage: str) -> None:
        """Say that a stage has begun."""

    def progress(self, stage: str, progress: WorkProgress) -> None:
        """Say how far a stage is in what it does now."""

    def line(self, text: str) -> None:
        """Say something that stays on the screen."""

    def end(self, stage: str, outcome: str) -> None:
        """Say how a stage ended: done, unchanged, linked, failed."""


_CURRENT: ContextVar[Display | None] = ContextVar("display", default=None)


@contextmanager
def shown_on(display: Display) -> Iterator[Display]:
    """Show all that runs inside the block on this display."""
    token = _CURRENT.set(display)
    try:
        yield display
    finally:
        _CURRENT.reset(token)


@contextmanager
def showing() -> Iterator[Display]:
    """Yield the display that is open, else one of this process: live on a terminal, plain lines elsewhere."""
    if (current := _CURRENT.get()) is not None:
        yield current
        return
    if not sys.stderr.isatty():
        with shown_on(PlainDisplay()) as display:
            yield display
        return
    with live_display(Console(stderr=True)) as live, shown_on(live):
        yield live


@contextmanager
def shown_as(name: str) -> Iterator[None]:
    """Show the progress of the block as one stage's."""
    with showing() as display, listening(lambda progress: display.progress(name, progress)):
        display.begin(name)
        began = time.monotonic()
        outcome = "not finished"
        try:
            yield
            outcome = f"done in {time.monotonic() - began:.1f} s"
        finally:
            display.end(name, outcome)


class PlainDisplay:
    """Log lines: where a stage begins and ends, and every 15 seconds how far it is."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def expect(self, stages: int) -> None:
        """Say nothing: each stage has lines of its own."""

    def begin(self, stage: str) -> None:
        """Log that a stage runs."""
        self._said[stage] = time.monotonic()
        self.line(f"{stage}: running")

    def progress(self, stage: str, progress: WorkProgress) -> None:
        """Log how far a stage is, unless the last line about it is younger than 15 seconds."""
        now = time.monotonic()
        if now - self._said.get(stage, 0.0) >= _LINE_EVERY_SECONDS:
            self._said[stage] = now
            self.line(f"{stage}: {progress.what}, {progress.done:,} of {progress.total:,}")

    def line(self, text: str) -> None:
        """Log a line."""
        LOG.info("%s", text)

    def end(self, stage: str, outcome: str) -> None:
        """Log how a stage ended."""
        self.line(f"{stage}: {outcome}")


class _Rate(ProgressColumn):
    """Steps a second of what a stage does now."""

    def render(self, task: Task) -> Text:
        """Return the rate, empty while it is not known."""
        speed = task.speed
        return Text(
            "" if speed is None else f"{speed:,.1f}/s" if speed >= 1 or not speed else f"{1 / speed:,.1f} s each"
        )


class LiveDisplay:
    """A row for each stage that runs: what it does, a bar, the rate and the time left; ended stages scroll away."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._doing: dict[str, str] = {}
        self._all: TaskID | None = None

    @property
    def rows(self) -> list[Task]:
        """What is shown now: a row for all stages where they were counted, and one for each that runs."""
        return list(self._bars.tasks)

    def expect(self, stages: int) -> None:
        """Add a row for all stages."""
        self._all = self._bars.add_task("all stages", total=stages, doing="")

    def begin(self, stage: str) -> None:
        """Add a row."""
        self._tasks[stage] = self._bars.add_task(stage, total=None, doing="")

    def progress(self, stage: str, progress: WorkProgress) -> None:
        """Move a row's bar; the bar and the rate begin anew with each kind of work."""
        if (task := self._tasks.get(stage)) is None:
            return
        if self._doing.get(stage) != progress.what:
            self._doing[stage] = progress.what
            self._bars.reset(task, total=progress.total, completed=progress.done, doing=progress.what)
        self._bars.update(task, total=progress.total, completed=progress.done)

    def line(self, text: str) -> None:
        """Print a line above the rows."""
        self._bars.console.print(Text(text, style="dim"))

    def end(self, stage: str, outcome: str) -> None:
        """Take the row away and print how the stage ended."""
        if (task := self._tasks.pop(stage, None)) is not None:
            self._bars.remove_task(task)
        if self._all is not None:
            self._bars.advance(self._all)
        self._bars.console.print(Text.assemble((f"{stage:<12}", "bold"), f" {outcome}"))


@contextmanager
def live_display(console: Console) -> Iterator[LiveDisplay]:
    """Yield a live display on a console; what is written to standard error meanwhile stands above it."""
    bars = Bars(
        TextColumn("[bold]{task.description:<12}"),
        TextColumn("{task.fields[doing]}", table_column=Column(max_width=36, no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    with bars:
        yield LiveDisplay(bars)
