"""One process at a time in a folder: the lock names its owner, and is free when the owner has died."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from recsys.core.errors import InUseError
from recsys.core.telemetry import LOG

LOCK = ".lock"
"""The name of the lock in its folder."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Who holds a folder."""

    process: int
    host: str
    started: str
    """When the folder was taken, in UTC."""

    @classmethod
    def here(cls) -> "Owner":
        """Return this process."""
        return cls(
            process=os.getpid(),
            host=socket.gethostname(),
            started=datetime.now(UTC).isoformat(sep=" ", timespec="seconds"),
        )

    def __str__(self) -> str:
        """Return the owner in words."""
        return f"process {self.process} on {self.host} since {self.started}"


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Hold a folder while the block runs; the operating system lets go of it when the process ends, however it ends.

    A lock that a killed process left is taken over, and a log line says whose it was. A folder in which nothing can be
    written has no owner: what is there can be read, and whatever would write fails by itself.

    Raises:
        InUseError: another process holds the folder; names it.
    """
    if folder.is_dir() and not os.access(folder, os.W_OK):
        yield
        return
    path = folder / LOCK
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUseError(
                f"{folder} must be free, but {_owner(path) or 'another process'} works in it; "
                "wait until that has ended, or choose another folder"
            ) from error
        if left := _owner(path):
            LOG.warning("%s was left by %s, which did not finish; going on from what it finished", folder, left)
        _write(path, json.dumps(asdict(Owner.here())))
        try:
            yield
        finally:
            _write(path, "")


def _owner(path: Path) -> Owner | None:
    """Return who is named in a lock, or None where nobody is, or a kill left half a name."""
    try:
        return Owner(**json.loads(path.read_text()))
    except (json.JSONDecodeError, TypeError):
        return None


def _write(path: Path, text: str) -> None:
    """Write in place: a renamed file would be another file to the lock."""
    path.write_text(text)
