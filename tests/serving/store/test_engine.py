"""Opening the store: made once by many, brought up from version 0.1, refused in one line without a password."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from recsys.core.errors import ConfigError
from serving.store import open_store
from serving.store.engine import StoreError, store_url


def test_open_store_when_sqlite_then_is_wal_with_full_sync(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 's.db'}")
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    store.close()


def test_open_store_when_several_processes_start_at_once_then_all_do(any_store_url: str) -> None:
    code = "import sys; from serving.store import open_store; open_store(sys.argv[1]).close()"
    command = [sys.executable, "-c", code, any_store_url]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [(process.communicate(timeout=120)[1], process.returncode) for process in started]
    assert [code for _, code in said] == [0, 0, 0], said


def test_open_store_when_it_is_of_version_0_1_then_keeps_events_and_moves_exposures(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    old = sqlite3.connect(path)
    old.executescript(
        """
        create table events (event_id varchar(256) primary key, user_id varchar(256) not null,
            item_id varchar(256) not null, event_type varchar(256) not null, timestamp bigint not null,
            request_id varchar(256), received_at bigint not null);
        create index events_by_user on events (user_id, timestamp);
        create table exposures (request_id varchar(256), position integer, user_id varchar(256),
            item_id varchar(256) not null, score float not null, model_version varchar(256) not null,
            at bigint not null, primary key (request_id, position));
        insert into events values ('e', 'u', 'i', 'view', 7, null, 1);
        insert into exposures values ('r', 1, 'u', 'second', 0.5, 'v', 9), ('r', 0, 'u', 'first', 1.0, 'v', 9);
        """
    )
    old.commit()
    old.close()
    store = open_store(f"sqlite:///{path}")
    assert store.events.past("u", 10).events == (("i", 7),)
    shown = store.slates.get("r")
    assert shown is not None
    assert (shown.item_ids, shown.scores, shown.propensities) == (["first", "second"], [1.0, 0.5], [None, None])
    assert json.dumps(shown.policy) == '"unknown"'
    store.close()


def test_open_store_when_it_cannot_be_reached_then_says_so_without_the_password() -> None:
    # Port 1 is reserved and answers nobody.
    with pytest.raises(StoreError, match="reachable") as caught:
        open_store("postgresql+psycopg://u:secret@127.0.0.1:1/db")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_open_store_when_a_sqlite_folder_is_missing_then_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="reachable and writable"):
        open_store(f"sqlite:///{tmp_path / 'no' / 's.db'}")


def test_store_url_when_the_password_is_in_a_file_then_takes_it(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("p@ss\n")
    url = store_url(tmp_path, "postgresql://u@h/db", {"RECSYS_STORE_PASSWORD_FILE": str(secret)})
    assert (url.password, url.drivername) == ("p@ss", "postgresql+psycopg")
    assert store_url(tmp_path, None, {"RECSYS_STORE_URL": "sqlite:////x.db"}).database == "/x.db"
    assert store_url(tmp_path, None, {}).database == str(tmp_path / "serving" / "events.db")


@pytest.mark.parametrize("text", ["nonsense", "mysql://h/db"])
def test_store_url_when_it_is_none_of_ours_then_says_what_is(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="sqlite"):
        store_url(tmp_path, text, {})
