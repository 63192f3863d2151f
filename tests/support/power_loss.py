"""What a disk may hold after the power fails: recorded writes, of which only synced ones are sure to be there.

A writer runs under a library that records every write and sync (record_writes.c). After any record the power may
fail: a file then holds all it was written before its last sync, and of what came later nothing, or any part, torn at
sectors. A file that was made is there for sure once its folder was synced.
"""

import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).with_name("record_writes.c")
SECTOR = 512


def missing() -> str | None:
    """Return why nothing can be recorded here, or None."""
    if sys.platform != "linux":
        return "writes are recorded by a library for Linux"
    return None if shutil.which("cc") else "there is no C compiler (cc)"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One write (W), truncation (T), removal (U) or sync (S)."""

    kind: str
    path: Path
    offset: int
    data: bytes


def recorded(folder: Path, module: str, arguments: Sequence[str], scratch: Path) -> list[Record]:
    """Run a module whose writes below a folder are recorded, and return the records in order."""
    library, log = scratch / "record_writes.so", scratch / "records"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl", "-lpthread"], check=True)
    environment = {"LD_PRELOAD": str(library), "RECORD_TO": str(log), "RECORD_BELOW": str(folder)}
    subprocess.run([sys.executable, "-m", module, *arguments], env={**os.environ, **environment}, check=True)
    return list(_read(log.read_bytes()))


def _read(raw: bytes) -> Iterator[Record]:
    at, head = 0, struct.Struct("<cIQQ")
    while at < len(raw):
        kind, length, offset, size = head.unpack_from(raw, at)
        at += head.size
        path = Path(os.fsdecode(raw[at : at + length]))
        at += length
        yield Record(kind=kind.decode(), path=path, offset=offset, data=raw[at : at + size])
        at += size


@dataclass(kw_only=True)
class _File:
    """What of a file is on disk for sure, what was written since its last sync, and whether its name is sure."""

    synced: bytearray = field(default_factory=bytearray)
    since: list[Record] = field(default_factory=list)
    named: bool = False


class Disk:
    """A disk that is given records and may lose power after each."""

    def __init__(self) -> None:
        self._files: dict[Path, _File] = {}

    def take(self, record: Record) -> None:
        """Do what a record says."""
        if record.kind == "S":
            self._sync(record.path)
        elif record.kind == "U":
            self._files.pop(record.path, None)
        else:
            self._files.setdefault(record.path, _File()).since.append(record)

    def after_power_loss(self, rng: random.Random, *, keep: float) -> dict[Path, bytes]:
        """Return files as they may be: of every unsynced sector the disk kept this share, chosen at random."""
        found = {}
        for path, file in self._files.items():
            if not file.named and rng.random() >= keep:
                continue
            held = bytearray(file.synced)
            for record in file.since:
                _apply(held, record, lambda: rng.random() < keep)
            found[path] = bytes(held)
        return found

    def _sync(self, path: Path) -> None:
        file = self._files.get(path)
        if file is not None:
            for record in file.since:
                _apply(file.synced, record, lambda: True)
            file.since.clear()
            return
        for name, inside in self._files.items():
            inside.named = inside.named or name.parent == path


def _apply(held: bytearray, record: Record, kept: object) -> None:
    assert callable(kept)
    if record.kind == "T":
        if kept():
            held[:] = held[: record.offset].ljust(record.offset, b"\0")
        return
    at, end = record.offset, record.offset + len(record.data)
    while at < end:
        until = min(end, (at // SECTOR + 1) * SECTOR)
        if kept():
            if len(held) < until:
                held.extend(bytes(until - len(held)))
            held[at:until] = record.data[at - record.offset : until - record.offset]
        at = until
