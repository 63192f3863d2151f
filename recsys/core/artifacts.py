"""Artifacts of a run: content hashes, atomic folders, and the manifest that says what came from what."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
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
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, default=str) + "\n")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a new file beside ``path``, under a name nobody has, and rename it to ``path`` if the block succeeds."""
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(number)
    temporary = Path(name)
    try:
        temporary.chmod(0o666 & ~_umask())
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    """Return this process's mask of permissions, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def atomic_folder(folder: Path, work: Path, made: Collection[str] = ()) -> Iterator[Path]:
    """Yield a temporary folder and put it in the place of ``folder`` only if the block succeeds.

    Args:
        folder: where the result goes.
        work: a folder of ours on the same file system, in which the temporary folder is made.
        made: the relative names of the files that an earlier call wrote into ``folder`` and that may be removed.

    Raises:
        ArtifactError: ``folder`` holds files that are not among ``made`` nor left by a call that was killed.
    """
    names = work / f"{folder.name}.files.json"
    left = json.loads(names.read_text()) if names.exists() else []
    _refuse_foreign_files(folder, {*made, *left})
    work.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".tmp", dir=work))
    try:
        out = temporary / folder.name
        out.mkdir()
        yield out
        _refuse_foreign_files(folder, {*made, *left})
        write_json(names, sorted({*made, *left, *hash_folder(out)}))
        shutil.rmtree(folder, ignore_errors=True)
        out.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def place_files(folder: Path, work: Path, names: Collection[str]) -> Iterator[Path]:
    """Yield a temporary folder and move the named files from it into ``folder``, one by one, if the block succeeds.

    Raises:
        ArtifactError: the block did not write one of them.
    """
    work.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(suffix=".tmp", dir=work))
    try:
        yield temporary
        if missing := [name for name in names if not (temporary / name).is_file()]:
            raise ArtifactError(f"{folder} must get the files {sorted(names)}, but {missing[0]} was not written")
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (temporary / name).replace(folder / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _refuse_foreign_files(folder: Path, ours: set[str]) -> None:
    if not folder.exists():
        return
    there = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()]
    if foreign := sorted(set(there) - ours):
        raise ArtifactError(
            f"{folder} must hold only files that recsys made, got {foreign[0]} "
            f"({len(foreign)} such files); move them elsewhere, or choose another run folder"
        )


class Manifest:
    """The record of a run folder: for each stage its key, its files' hashes, its parents and its seconds."""

    def __init__(self, run: Path) -> None:
        self.path = run / "manifest.json"
        self.run = run

    def claim(self) -> None:
        """Make the folder a run folder, or check that it is one.

        Raises:
            ArtifactError: the folder is a file, or holds files and no manifest of ours, so that what is in it is not
                ours to replace.
        """
        if self.run.exists() and not self.run.is_dir():
            raise ArtifactError(f"a run must be a folder, got the file {self.run}; choose another name")
        if self.path.exists() and self._is_ours(self.read()):
            return
        if self.run.exists() and (held := sorted(path.name for path in self.run.iterdir())):
            raise ArtifactError(
                f"{self.run} must be a new folder, an empty one or a run that `recsys train` made, got a folder with "
                f"{held[0]} ({len(held)} names) and no manifest of ours; choose another folder for the run"
            )
        self.run.mkdir(parents=True, exist_ok=True)
        write_json(self.path, {"run": {"key": "made by recsys train"}})

    @staticmethod
    def _is_ours(content: Any) -> bool:
        entries = list(content.values()) if isinstance(content, dict) else []
        return bool(entries) and all(isinstance(entry, dict) and "key" in entry for entry in entries)

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
        """Add or replace a stage's entry; where an equal one stands, nothing is written: a run may be read-only."""
        entries = self.read()
        new = json.loads(json.dumps(entry, default=str))
        if entries.get(stage) != new:
            write_json(self.path, {**entries, stage: new})

    def is_current(self, stage: str, key: str, folder: Path, names: Collection[str] = ()) -> bool:
        """Tell whether a stage ran with this key and left a folder, empty or not, that is still as it was.

        With ``names`` only those files of the folder are the stage's.
        """
        entry = self.read().get(stage)
        if entry is None or entry["key"] != key or not folder.is_dir():
            return False
        own = {name: hash_file(folder / name) for name in names if (folder / name).is_file()}
        return bool((own if names else hash_folder(folder)) == entry.get("files"))


def require(path: Path, *, remedy: str) -> Path:
    """Return the path if it exists, else raise an error that names the remedy."""
    if not path.exists():
        raise ArtifactError(f"{path} must exist, but it does not; {remedy}")
    return path
