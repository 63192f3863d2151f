"""A run folder at a URL, for machines that share no disk: any file system that fsspec knows (s3://, gs://, file://).

Every machine works in a folder of its own. What a stage reads is fetched before it, what it made is pushed after it,
and its checkpoints as they are saved. The manifest comes last and holds hashes: what was pushed by halves is not
believed.
"""

import hashlib
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from pipelines.record import StageRecord, read_records
from recsys.core.artifacts import atomic_file, hash_file
from recsys.core.training import saving_to

WORKING = "RECSYS_WORKING"
"""The environment variable that says where a machine keeps its working copies of runs at URLs."""
LOOSE = ("manifest.json", "recipe.toml", "source.json")
"""Files of a run that are no stage's."""


def url_of(path: Path) -> str | None:
    """Return the URL that was given as a path, whose double slash a path loses; None for a folder of this machine.

    >>> url_of(Path("s3://bucket/run")), url_of(Path("runs/night"))
    ('s3://bucket/run', None)
    """
    found = re.fullmatch(r"([a-z][a-z0-9+.-]+):(/.*)", str(path))
    if found is None:
        return None
    scheme, rest = found.groups()
    return f"{scheme}://{rest}" if scheme == "file" else f"{scheme}:/{rest}"


@dataclass(frozen=True, kw_only=True)
class RunStore:
    """A run's folder at a URL, and this machine's working copy of it."""

    url: str

    @classmethod
    def of(cls, path: Path) -> "RunStore | None":
        """Return the store of a URL that was given as a path; None for a folder of this machine."""
        url = url_of(path)
        return None if url is None else cls(url=url)

    @property
    def working(self) -> Path:
        """The working copy's folder on this machine."""
        base = Path(os.environ.get(WORKING) or Path.home() / ".cache" / "recsys" / "runs").resolve()
        return base / f"{self.url.rstrip('/').rpartition('/')[2]}-{hashlib.sha256(self.url.encode()).hexdigest()[:12]}"

    def begin(self, stages: Collection[str] | None = None) -> Path:
        """Bring the working copy up to what is at the URL, or some stages of it, and return its folder."""
        self.working.mkdir(parents=True, exist_ok=True)
        for name in LOOSE:
            self._get(name)
        for name, record in read_records(self.working).items():
            if stages is None or name in stages:
                self.fetch(name, record)
        return self.working

    def fetch(self, stage: str, record: StageRecord) -> None:
        """Fetch what a stage made, where this machine does not have it; what an earlier version of it made goes."""
        wanted = _files(stage, record)
        own = self.working / (record.folder or stage)
        own.mkdir(parents=True, exist_ok=True)
        for path in own.rglob("*") if not record.folder else ():
            if path.is_file() and path.relative_to(self.working).as_posix() not in wanted:
                path.unlink()
        for name, value in wanted.items():
            local = self.working / name
            if not (local.is_file() and hash_file(local) == value):
                self._get(name)

    def push(self, stage: str, record: StageRecord) -> None:
        """Push what a stage made."""
        for name in _files(stage, record):
            self._put(name)

    def push_loose(self) -> None:
        """Push the manifest and what else is no stage's."""
        for name in reversed(LOOSE):
            if (self.working / name).exists():
                self._put(name)

    def push_reports(self) -> None:
        """Push the reports of a run that is there, and then the manifest."""
        if (self.working / LOOSE[0]).exists():
            self.push_folder(self.working / "reports")
            self.push_loose()

    def push_folder(self, folder: Path) -> None:
        """Push every file below a folder of the working copy."""
        for path in folder.rglob("*"):
            if path.is_file():
                self._put(path.relative_to(self.working).as_posix())

    def fetch_folder(self, folder: Path) -> None:
        """Fetch every file below a folder of the working copy."""
        folder.mkdir(parents=True, exist_ok=True)
        fs, root = self._opened()
        below = f"{root}/{folder.relative_to(self.working).as_posix()}"
        for found in fs.find(below) if fs.exists(below) else ():
            self._get(str(found)[len(root) + 1 :])

    def remove_folder(self, folder: Path) -> None:
        """Remove a folder at the URL."""
        fs, root = self._opened()
        below = f"{root}/{folder.relative_to(self.working).as_posix()}"
        if fs.exists(below):
            fs.rm(below, recursive=True)

    @contextmanager
    def checkpoints(self, folder: Path) -> Iterator[None]:
        """Fetch the checkpoints of a folder, and push each that is saved in the block."""
        self.fetch_folder(folder)
        with saving_to(lambda path: self._put(path.relative_to(self.working).as_posix())):
            yield

    def _get(self, name: str) -> None:
        fs, root = self._opened()
        if not fs.exists(f"{root}/{name}"):
            return
        local = self.working / name
        local.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(local) as temporary:
            fs.get_file(f"{root}/{name}", str(temporary))

    def _put(self, name: str) -> None:
        fs, root = self._opened()
        target = f"{root}/{name}"
        fs.makedirs(target.rpartition("/")[0], exist_ok=True)
        fs.put_file(str(self.working / name), target)

    def _opened(self) -> tuple[Any, str]:
        fs, root = fsspec.core.url_to_fs(self.url)
        return fs, str(root).rstrip("/")


def _files(stage: str, record: StageRecord) -> Mapping[str, str]:
    """Return a stage's files by their names in the run, with their hashes."""
    return {f"{record.folder or stage}/{name}": value for name, value in record.files.items()}
