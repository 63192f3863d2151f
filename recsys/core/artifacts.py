"""Artifacts of a run: content hashes, atomic folders, and the manifest that says what came from what."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recsys.core.errors import ArtifactError


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_folder(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder, by its relative name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in files}


def hash_value(value: Any) -> str:
    """Return the SHA-256 of a JSON-able value, the same for equal values whatever their key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON to a temporary name, then rename it into place."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value, indent=2, default=str) + "\n")
    temporary.replace(path)


def write_timings(run: Path, name: str, seconds: Mapping[str, float]) -> None:
    """Keep wall times beside the artifacts, not in them, so that equal work has equal hashes."""
    (run / "timings").mkdir(exist_ok=True)
    write_json(run / "timings" / f"{name}.json", {key: round(value, 3) for key, value in seconds.items()})


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary sibling folder and put it in the place of ``folder`` only if the block succeeds."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    yield temporary
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)


class Manifest:
    """The record of a run folder: for each stage its key, its files' hashes, its parents and its seconds."""

    def __init__(self, run: Path) -> None:
        self.path = run / "manifest.json"
        self.run = run

    def read(self) -> dict[str, Any]:
        """Return all entries; an absent manifest is an empty one."""
        if not self.path.exists():
            return {}
        try:
            entries: dict[str, Any] = json.loads(self.path.read_text())
        except json.JSONDecodeError as error:
            raise ArtifactError(f"{self.path} must be JSON, got {error}; delete it to run every stage again") from error
        return entries

    def record(self, stage: str, entry: Mapping[str, Any]) -> None:
        """Add or replace a stage's entry."""
        write_json(self.path, {**self.read(), stage: dict(entry)})

    def is_current(self, stage: str, key: str, folder: Path) -> bool:
        """Tell whether a stage ran with this key and left a folder, empty or not, that is still as it was."""
        entry = self.read().get(stage)
        if entry is None or entry["key"] != key or not folder.is_dir():
            return False
        return hash_folder(folder) == entry["files"]


def require(path: Path, *, remedy: str) -> Path:
    """Return the path if it exists, else raise an error that names the remedy."""
    if not path.exists():
        raise ArtifactError(f"{path} must exist, but it does not; {remedy}")
    return path
