"""Progress and log lines of a stage in another process: it appends them to a file, and this process shows them."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.display import Display, shown_on
from recsys.core.telemetry import WorkProgress, logging_to


class FileDisplay:
    """Appends reports to a file, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path

    def expect(self, stages: int) -> None:
        """Append nothing: whoever reads the file counts its own stages."""

    def begin(self, stage: str) -> None:
        """Append that a stage has begun."""
        self._append({"begin": stage})

    def progress(self, stage: str, progress: WorkProgress) -> None:
        """Append how far a stage is."""
        self._append({"progress": stage, "what": progress.what, "done": progress.done, "total": progress.total})

    def line(self, text: str) -> None:
        """Append a line."""
        self._append({"line": text})

    def end(self, stage: str, outcome: str) -> None:
        """Append how a stage ended."""
        self._append({"end": stage, "outcome": outcome})

    def _append(self, event: dict[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(event) + "\n")


class _Lines(logging.Handler):
    """Turns log records into lines of a display."""

    def __init__(self, display: Display) -> None:
        super().__init__()
        self._display = display

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record's message."""
        self._display.line(record.getMessage())


@contextmanager
def relayed(path: Path) -> Iterator[Display]:
    """Send progress and log lines of the block to a file instead of this process's own terminal."""
    display = FileDisplay(path)
    with shown_on(display), logging_to(_Lines(display)):
        yield display


class Relay:
    """Reads such a file as it grows and shows what is new."""

    def __init__(self, path: Path, display: Display, *, label: str = "") -> None:
        path.unlink(missing_ok=True)  # of a killed run
        self._path, self._display, self._label = path, display, label
        self._read = 0

    def forward(self) -> None:
        """Show every line that is complete and not shown yet."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            self._show(json.loads(line))

    def _show(self, event: dict[str, Any]) -> None:
        display, label = self._display, self._label
        if "begin" in event:
            display.begin(label + event["begin"])
        elif "progress" in event:
            progress = WorkProgress(what=event["what"], done=event["done"], total=event["total"])
            display.progress(label + event["progress"], progress)
        elif "end" in event:
            display.end(label + event["end"], event["outcome"])
        else:
            display.line(label + event["line"])
