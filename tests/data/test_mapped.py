"""A log that is mapped from its file is the log that was written, and lists of kept values are the same in a file."""

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.core.errors import ArtifactError
from recsys.data import mapped
from recsys.data.mapped import kept, map_events, write_events
from recsys.data.prepare import MAPPED, PrepareConfig, load_prepared, prepare, save_prepared
from recsys.data.synthetic import SyntheticConfig, make_synthetic
from tests.support.random_log import random_log

USERS = 6
log_of_seed = partial(random_log, users=USERS, active=USERS - 1, events=20)
"""A log in which some users have no event."""


@given(seed=st.integers(0, 99))
def test_map_events_when_written_then_the_log_is_the_same(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    log, path = log_of_seed(seed), tmp_path_factory.mktemp("data") / "events.arrow"
    write_events(path, offsets_U1=log.offsets_U1, items_E=log.items_E, timestamps_E=log.timestamps_E)
    found = map_events(path)
    for got, wanted in zip(found, (log.offsets_U1, log.items_E, log.timestamps_E), strict=True):
        assert got.dtype == np.int64
        np.testing.assert_array_equal(got, wanted)


def test_map_events_when_mapped_then_arrow_holds_no_copy(tmp_path: Path) -> None:
    # 1,000,000 events are 16 MB of items and times, of which nothing is allocated
    many_E = np.arange(1_000_000)
    write_events(tmp_path / "e", offsets_U1=np.array([0, len(many_E)]), items_E=many_E, timestamps_E=many_E)
    before = pa.total_allocated_bytes()
    _, items_E, timestamps_E = map_events(tmp_path / "e")
    assert pa.total_allocated_bytes() - before < 100_000
    assert not items_E.flags.owndata
    assert not timestamps_E.flags.owndata
    assert not items_E.flags.writeable


def test_map_events_when_the_file_is_another_then_artifact_error(tmp_path: Path) -> None:
    (tmp_path / "events.arrow").write_bytes(b"user,item")
    with pytest.raises(ArtifactError, match=r"events\.arrow must be the events of a run"):
        map_events(tmp_path / "events.arrow")


@given(seed=st.integers(0, 99), large=st.booleans())
def test_first_when_users_keep_some_events_then_they_are_their_first_ones(seed: int, large: bool) -> None:
    log, rng = log_of_seed(seed), np.random.default_rng(seed)
    keep_U = rng.integers(0, log.lengths_U + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapped, "SCRATCH_BYTES", 8 if large else 1 << 26)
        patch.setattr(mapped, "_PIECE", 3)
        found = log.first(keep_U)
    for user in range(USERS):
        whole, part = log.history(user), found.history(user)
        np.testing.assert_array_equal(part.items, whole.items[: keep_U[user]])
        np.testing.assert_array_equal(part.timestamps, whole.timestamps[: keep_U[user]])


def test_kept_when_values_are_many_then_they_lie_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "SCRATCH_BYTES", 16)
    values_E = np.arange(5)
    in_file, in_memory = kept(values_E, values_E > 1), kept(values_E, values_E > 3)
    assert in_file.tolist() == [2, 3, 4]
    assert isinstance(in_file.base, np.memmap)
    assert in_memory.tolist() == [4]
    assert not isinstance(in_memory.base, np.memmap)


def test_load_prepared_when_the_run_has_no_mapped_file_then_it_is_the_same_log(tmp_path: Path) -> None:
    save_prepared(prepare(make_synthetic(SyntheticConfig(users=20, items=50)), PrepareConfig()), tmp_path)
    mapped_log = load_prepared(tmp_path).log
    (tmp_path / MAPPED).unlink()
    read_log = load_prepared(tmp_path).log
    for name in ("offsets_U1", "items_E", "timestamps_E", "num_items"):
        np.testing.assert_array_equal(getattr(mapped_log, name), getattr(read_log, name))


def test_load_prepared_when_the_mapped_file_is_of_other_users_then_artifact_error(tmp_path: Path) -> None:
    save_prepared(prepare(make_synthetic(SyntheticConfig(users=20, items=50)), PrepareConfig()), tmp_path)
    other = log_of_seed(0)
    write_events(tmp_path / MAPPED, offsets_U1=other.offsets_U1, items_E=other.items_E, timestamps_E=other.timestamps_E)
    with pytest.raises(ArtifactError, match="must have 20 users, got 6"):
        load_prepared(tmp_path)
