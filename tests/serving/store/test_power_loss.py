"""The power fails at any moment: what was acknowledged is on the disk, whole groups only, and the file is sound."""

import random
import sqlite3
from pathlib import Path

import pytest

from tests.support.acknowledging_writer import DATABASE, SAID, group_ids
from tests.support.power_loss import Disk, Record, missing, recorded

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))
GROUPS, LOSSES = 300, 400
"""The write-ahead log is copied into the database after 1,000 pages, which 300 groups reach."""


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    store, scratch = tmp_path / "store", tmp_path / "scratch"
    store.mkdir()
    scratch.mkdir()
    return store, scratch


def harm(records: list[Record], store: Path, scratch: Path, *, losses: int) -> tuple[set[str], int]:
    """Cut the power at random records; return what went wrong, and the most groups acknowledged before a cut."""
    rng = random.Random(11)
    cuts = sorted(rng.sample(range(len(records)), min(losses, len(records))))
    disk, acknowledged, wrong, at = Disk(), 0, set(), 0
    for cut in cuts:
        for record in records[at : cut + 1]:
            if record.path == store / SAID:
                acknowledged += record.data.count(b"\n")
            else:
                disk.take(record)
        at = cut + 1
        for keep in (0.0, 0.5):
            wrong |= _wrong(disk.after_power_loss(rng, keep=keep), store, scratch, acknowledged)
    return wrong, acknowledged


def _wrong(files: dict[Path, bytes], store: Path, scratch: Path, acknowledged: int) -> set[str]:
    place = scratch / "after"
    place.mkdir(exist_ok=True)
    for old in place.iterdir():
        old.unlink()
    for path, held in files.items():
        if path.parent == store and not path.name.endswith("-shm"):  # shared memory is made anew
            (place / path.name).write_bytes(held)
    if not (place / DATABASE).exists():
        return {"lost"} if acknowledged else set()
    connection = sqlite3.connect(place / DATABASE)
    try:
        if connection.execute("pragma integrity_check").fetchall() != [("ok",)]:
            return {"damaged"}
        tables = connection.execute("select name from sqlite_master where name = 'events'").fetchall()
        kept = {row[0] for row in connection.execute("select event_id from events")} if tables else set()
    except sqlite3.DatabaseError:
        return {"damaged"}
    finally:
        connection.close()
    groups = {int(id_.split("-")[0]) for id_ in kept}
    wrong = set() if groups >= set(range(acknowledged)) else {"lost"}
    return wrong if all(kept.issuperset(group_ids(group)) for group in groups) else wrong | {"torn"}


def test_add_when_the_power_fails_then_keeps_what_it_acknowledged(paths: tuple[Path, Path]) -> None:
    store, scratch = paths
    records = recorded(store, "tests.support.acknowledging_writer", [str(store), str(GROUPS)], scratch)
    assert sum(record.kind == "S" for record in records) >= GROUPS
    assert any(record.kind == "W" and record.path.name == DATABASE for record in records[len(records) // 2 :])
    wrong, acknowledged = harm(records, store, scratch, losses=LOSSES)
    assert wrong == set()
    assert acknowledged > GROUPS * 0.9


def test_power_loss_when_commits_are_not_synced_then_the_same_check_finds_losses(paths: tuple[Path, Path]) -> None:
    store, scratch = paths
    records = recorded(store, "tests.support.acknowledging_writer", [str(store), "40", "NORMAL"], scratch)
    wrong, _ = harm(records, store, scratch, losses=60)
    assert "lost" in wrong
