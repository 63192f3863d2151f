"""Batch recommendation: every asked user once, counted, whatever stops it, and nothing of others touched."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.batch import plan, worker
from pipelines.batch.call import BatchCall, BatchReport, Shard
from pipelines.batch.folder import BatchFolder
from pipelines.batch.job import recommend_batch
from recsys.contracts import empty_history, requests_for
from recsys.core.errors import CallError, DataError, InUseError
from recsys.core.lock import owned
from recsys.data.prepare import load_prepared
from recsys.recommender.bundle import load_bundle

N = 5
SMALL = 16
"""Users of a part, so that 150 users make ten parts."""


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "PART_USERS", SMALL)
    monkeypatch.setattr(worker, "USERS_PER_CALL", 7)


def batch(run: Path, users: Path | None, to: Path, shard: Shard | None = None) -> BatchReport:
    return recommend_batch(BatchCall(run=run, users=users, to=to, n=N, shard=shard or Shard()), use_ray=False)


def answers(to: Path) -> dict[str, list[object]]:
    """Return the items of every user, in the order of their ranks."""
    rows = sorted(pq.read_table(to).to_pylist(), key=lambda row: (row["user_id"], row["rank"]))
    ranks = Counter((row["user_id"], row["rank"]) for row in rows)
    assert set(ranks.values()) <= {1}
    found: dict[str, list[object]] = {}
    for row in rows:
        found.setdefault(row["user_id"], []).append(row["item_id"])
    return found


def statuses(to: Path) -> dict[str, tuple[bool, int]]:
    rows = pq.read_table(to / "_users").to_pylist()
    assert len({row["user_id"] for row in rows}) == len(rows)
    return {row["user_id"]: (row["known"], row["items"]) for row in rows}


def expected(run: Path) -> dict[str, list[object]]:
    """Return what every user of the run gets from the bundle, asked all at once."""
    prepared, bundle = load_prepared(run / "data"), load_bundle(run / "bundle", trace=False)
    histories = [prepared.log.history(row) for row in range(prepared.log.num_users)]
    slates = bundle.recommender.recommend(requests_for(histories, n=N))
    ids = bundle.catalogue.item_ids
    return {
        str(user): [ids[item] for item in slate.items.tolist()]
        for user, slate in zip(prepared.user_ids, slates, strict=True)
    }


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_batch_when_all_users_are_asked_then_each_gets_what_it_gets_in_process(run: Path, tmp_path: Path) -> None:
    report = batch(run, None, tmp_path / "out")
    wanted = expected(run)
    assert answers(tmp_path / "out") == wanted
    assert report == BatchReport(asked=len(wanted), answered=len(wanted), recommendations=N * len(wanted))
    assert len(list((tmp_path / "out").glob("part-*.parquet"))) == -(-len(wanted) // SMALL)
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.name.startswith("_")) == [
        *("_SUCCESS", "_batch.json", "_report.json", "_users"),
    ]
    assert f"{N * len(wanted):,} recommendations for {len(wanted):,} users" in report.sentence(tmp_path)


def test_batch_when_users_are_asked_twice_unknown_or_null_then_each_is_counted_and_there_once(
    run: Path, tmp_path: Path
) -> None:
    users = load_prepared(run / "data").user_ids[:3]
    first, second, third = map(str, users)
    # one null makes floats of numbers; 007 is not 7; blanks are cut off
    asked = [first, f" {second}", "stranger", first, None, third, "stranger", first, "00" + first]
    pq.write_table(pa.table({"note": range(9), "user_id": asked}), tmp_path / "users.parquet")
    report = batch(run, tmp_path / "users.parquet", tmp_path / "out")
    # distinct: three known, stranger and 00x; rows: 9 = 5 distinct + 3 repeated + 1 null
    assert report == BatchReport(asked=5, answered=5, unknown=2, duplicates=3, invalid=1, recommendations=5 * N)
    got, wanted = answers(tmp_path / "out"), expected(run)
    assert {user: got[user] for user in (first, second, third)} == {user: wanted[user] for user in map(str, users)}
    bundle = load_bundle(run / "bundle", trace=False)
    (slate,) = bundle.recommender.recommend(requests_for([empty_history()], n=N))
    nobody = [bundle.catalogue.item_ids[item] for item in slate.items.tolist()]
    assert got["stranger"] == got["00" + first] == nobody
    assert statuses(tmp_path / "out") == {
        **dict.fromkeys((first, second, third), (True, N)),
        **dict.fromkeys(("stranger", "00" + first), (False, N)),
    }


def test_batch_when_one_null_made_floats_of_ids_then_users_are_still_found(run: Path, tmp_path: Path) -> None:
    user = load_prepared(run / "data").user_ids[0]
    pq.write_table(pa.table({"user_id": [float(user), None]}), tmp_path / "users.parquet")
    assert batch(run, tmp_path / "users.parquet", tmp_path / "out") == BatchReport(
        asked=1, answered=1, invalid=1, recommendations=N
    )


def test_batch_when_users_are_a_folder_of_files_then_all_are_read(run: Path, tmp_path: Path) -> None:
    first, second, third = load_prepared(run / "data").user_ids[:3]
    folder = tmp_path / "users"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.csv").write_text(f"name,user_id\nx,{first}\ny,{second}\n")
    (folder / "_SUCCESS").touch()
    (folder / "readme.txt").touch()
    pq.write_table(pa.table({"user_id": [third, first]}), folder / "deep" / "b.parquet")
    report = batch(run, folder, tmp_path / "out")
    assert (report.asked, report.duplicates) == (3, 1)
    assert set(answers(tmp_path / "out")) == {str(first), str(second), str(third)}


def test_batch_when_nothing_is_eligible_then_the_user_is_there_as_empty(run: Path, tmp_path: Path) -> None:
    # a user who has seen all items of the catalogue gets nothing
    prepared = load_prepared(run / "data")
    everything = pa.table(
        {
            "user": [0] * prepared.log.num_items,
            "item": list(range(prepared.log.num_items)),
            "timestamp": list(range(prepared.log.num_items)),
        }
    )
    copy = tmp_path / "run"
    (copy / "data").mkdir(parents=True)
    (copy / "bundle").symlink_to(run / "bundle")
    pq.write_table(everything, copy / "data" / "events.parquet")
    pq.write_table(pa.table({"user_id": ["greedy", "idle"]}), copy / "data" / "users.parquet")
    report = batch(copy, None, tmp_path / "out")
    assert report == BatchReport(asked=2, answered=1, empty=1, recommendations=N)
    assert statuses(tmp_path / "out") == {"greedy": (True, 0), "idle": (True, N)}


class Stopped(Exception):
    """Stands for a kill."""


def stop_after(parts: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let a job answer so many parts and stop in the middle of the next; returns the parts answered, as they come."""
    done: list[int] = []
    answer = worker.PartWorker.answer

    def answer_some(self: worker.PartWorker, part: int) -> None:
        if len(done) == parts:
            raise Stopped
        answer(self, part)
        done.append(part)

    monkeypatch.setattr(worker.PartWorker, "answer", answer_some)
    return done


def test_batch_when_stopped_and_started_again_then_goes_on_and_no_user_is_twice_or_missing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "out"
    with monkeypatch.context() as patch:
        done = stop_after(4, patch)
        with pytest.raises(Stopped):
            batch(run, None, to)
    assert len(done) == 4
    assert not (to / "_SUCCESS").exists()
    kept = {name: content for name, content in snapshot(to).items() if "part-" in name}
    (to / ".part-00007.parquet.abc.tmp").write_bytes(b"half")  # what a kill leaves
    with monkeypatch.context() as patch:
        again = stop_after(99, patch)
        report = batch(run, None, to)
    assert sorted(done + again) == list(range(10))
    assert answers(to) == expected(run)
    assert report.asked == len(statuses(to))
    after = snapshot(to)
    assert all(after[name] == content for name, content in kept.items())
    assert not list(to.glob(".part*"))
    assert (to / "_SUCCESS").exists()
    # once more: nothing is done, the same is reported
    with monkeypatch.context() as patch:
        assert stop_after(0, patch) == []
        assert batch(run, None, to) == report
    assert snapshot(to) == after


@pytest.mark.parametrize("when", ["planned", "reported"])
def test_batch_when_stopped_while_planning_or_at_the_end_then_goes_on(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    to = tmp_path / "out"
    home, name = (plan, "write_json") if when == "planned" else (Path, "touch")
    with monkeypatch.context() as patch:
        patch.setattr(home, name, lambda *_, **__: (_ for _ in ()).throw(Stopped))
        with pytest.raises(Stopped):
            batch(run, None, to)
    assert batch(run, None, to).asked == len(expected(run))
    assert answers(to) == expected(run)


def test_batch_when_in_shards_then_together_they_answer_each_user_once_and_the_last_marks_success(
    run: Path, tmp_path: Path
) -> None:
    to = tmp_path / "out"
    reports = []
    for index in (2, 0, 1):
        assert not (to / "_SUCCESS").exists()
        reports.append(batch(run, None, to, Shard(index=index, count=3)))
    assert (to / "_SUCCESS").exists()
    assert sum(report.asked for report in reports) == len(expected(run))
    assert all(report.asked for report in reports)
    assert answers(to) == expected(run)
    assert not (to / "_work").exists()


def test_batch_when_the_target_holds_files_of_others_then_refuses_and_leaves_them(run: Path, tmp_path: Path) -> None:
    for name in ("notes.txt", "part-00000.parquet", ".hidden"):
        folder = tmp_path / name.replace(".", "")
        folder.mkdir()
        (folder / name).write_text("mine")
        with pytest.raises(CallError, match="choose another folder"):
            batch(run, None, folder)
        assert [path.name for path in folder.iterdir()] == [name]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CallError, match="must be a folder, got the file"):
        batch(run, None, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_batch_when_a_foreign_file_came_into_our_folder_then_refuses_and_leaves_it(run: Path, tmp_path: Path) -> None:
    to = tmp_path / "out"
    batch(run, None, to)
    before = snapshot(to)
    (to / "out.tmp").write_text("mine")
    with pytest.raises(CallError, match=r"with out\.tmp \(1 such files\)"):
        batch(run, None, to)
    (to / "out.tmp").unlink()
    assert snapshot(to) == before


def test_batch_when_the_folder_is_of_another_job_then_says_what_differs(run: Path, tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("user_id\n1\n")
    batch(run, tmp_path / "users.csv", tmp_path / "out")
    with pytest.raises(CallError, match="whose users differ"):
        batch(run, None, tmp_path / "out")
    with pytest.raises(CallError, match="whose n differ"):
        recommend_batch(BatchCall(run=run, users=tmp_path / "users.csv", to=tmp_path / "out", n=N + 1), use_ray=False)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "got nothing at"),
        ("users.csv", b"user\n1\n", "must have a column user_id, got"),
        ("users.parquet", b"user_id\n1\n", "must be a Parquet or CSV file"),
        ("users.csv", b"user_id\n1,2\n", "must be a Parquet or CSV file"),
        ("users.csv", b"", "must be a Parquet or CSV file"),
    ],
)
def test_batch_when_users_cannot_be_read_then_says_so_and_writes_nothing(
    run: Path, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        batch(run, tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_batch_when_another_process_works_there_then_is_refused_but_not_in_another_shard(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(0, patch)
        with pytest.raises(Stopped):
            batch(run, None, tmp_path / "out", Shard(index=0, count=2))
    with owned(tmp_path / "out" / "_work" / "shard-0-of-2"):
        with pytest.raises(InUseError, match=f"process {os.getpid()}"):
            batch(run, None, tmp_path / "out", Shard(index=0, count=2))
        batch(run, None, tmp_path / "out", Shard(index=1, count=2))
    batch(run, None, tmp_path / "out", Shard(index=0, count=2))
    assert answers(tmp_path / "out") == expected(run)


@pytest.mark.parametrize("text", ["3/3", "1", "-1/2", "a/b", "0/0", "1/2/3"])
def test_shard_when_written_wrong_then_says_how(text: str) -> None:
    with pytest.raises(CallError, match="--shard must be I/N"):
        Shard.parse(text)
    assert Shard.parse("1/4") == Shard(index=1, count=4)


SCRIPT = """
import sys
from pathlib import Path
from pipelines.batch import plan
from pipelines.batch.call import BatchCall
from pipelines.batch.folder import BatchFolder
from pipelines.batch.job import recommend_batch
if __name__ == "__main__":
    plan.PART_USERS = 4
    run, to, use_ray = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "ray"
    recommend_batch(BatchCall(run=run, users=None, to=to, n=5), use_ray=use_ray)
"""


def started(run: Path, to: Path, how: str) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(run), str(to), how]
    return subprocess.Popen(command, env=environment, start_new_session=True)


def kill_after_parts(process: subprocess.Popen[bytes], to: Path, parts: int) -> None:
    """Kill a job and all that it started once it has written so many parts."""
    while process.poll() is None and len(list(to.glob("_users/part-*.parquet"))) < parts:
        time.sleep(0.02)
    assert process.poll() is None, "the job ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_remote_worker_when_its_run_is_broken_then_the_error_comes_back_as_text(tmp_path: Path) -> None:
    nothing = plan.BatchPlan(folder=tmp_path, parts=(3,), invalid=0)
    broken = worker.RemoteWorker(tmp_path / "run", BatchFolder(tmp_path, Shard()), nothing, n=N)
    (error,) = broken({"part": np.array([3])})["error"].tolist()
    assert "manifest.json must exist" in error


def test_remote_worker_when_something_unforeseen_happens_then_says_which_part(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(0, monkeypatch)
    nothing = plan.BatchPlan(folder=tmp_path, parts=(3,), invalid=0)
    stopping = worker.RemoteWorker(run, BatchFolder(tmp_path, Shard()), nothing, n=N)
    answered = stopping({"part": np.array([3])})
    assert answered["error"].tolist() == ["part 3 failed, Stopped: ; see it with --no-ray"]
    assert answered["part"].tolist() == [3]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", ["here", pytest.param("ray", marks=pytest.mark.ray)])
def test_batch_when_killed_twice_then_the_third_ends_complete(run: Path, tmp_path: Path, how: str) -> None:
    to = tmp_path / "out"
    for parts in (3, 11):
        kill_after_parts(started(run, to, how), to, parts)
        assert not (to / "_SUCCESS").exists()
    assert started(run, to, how).wait() == 0
    assert answers(to) == expected(run)
    assert set(statuses(to)) == set(expected(run))
    assert (to / "_SUCCESS").exists()


@pytest.mark.slow
@pytest.mark.ray
def test_batch_when_on_ray_then_equals_in_process_and_does_not_wait_for_itself(run: Path, tmp_path: Path) -> None:
    # more parts than cores: a pool that took every core would hang (ray issue 44687)
    assert started(run, tmp_path / "ray", "ray").wait() == 0
    assert answers(tmp_path / "ray") == expected(run)
