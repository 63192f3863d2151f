"""Reads the files that the sections of a page are made from; a section without its files becomes a sentence."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from recsys.core.artifacts import require
from recsys.core.errors import ArtifactError, RecsysError

_Section = TypeVar("_Section")


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A section that cannot be made, and the sentence that says why and what to run."""

    missing: str


def made(build: Callable[..., _Section], *runs: Path) -> _Section | Missing:
    """Return the section that is built from one run or several, or what it lacks."""
    try:
        return build(*runs)
    except RecsysError as error:
        return Missing(missing=str(error))


def read(run: Path, name: str, made_by: str = "recsys train DATA --to") -> Any:
    """Return a JSON file of a run.

    Raises:
        ArtifactError: it is missing or broken; says which command makes it.
    """
    path = require(run / name, remedy=f"run `{made_by} {run}` to make it")
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ArtifactError(f"{path} must be JSON, got {error}; run `{made_by} {run}` again") from error


def numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a summary, under names with spaces for underscores."""
    return {name.replace("_", " "): value for name, value in summary.items() if isinstance(value, int | float)}
