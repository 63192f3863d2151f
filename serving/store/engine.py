"""The connection to the store: SQLite that syncs every commit, or PostgreSQL; its tables, made once."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from recsys.core.errors import CallError, ConfigError, RecsysError
from serving.settings import secret_from

URL_NAME, PASSWORD = "RECSYS_STORE_URL", "RECSYS_STORE_PASSWORD"
_LOCK_NUMBER = 7_318_203_311
"""Of PostgreSQL's advisory lock under which tables are made."""


class StoreError(RecsysError):
    """The store cannot be opened."""


def default_url(run: Path) -> str:
    """Return the URL of a run's own SQLite store and make its folder."""
    folder = run / "serving"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} must be a folder to write to, got {error}; give --store URL instead") from error
    return f"sqlite:///{folder / 'events.db'}"


def store_url(run: Path, given: str | None, environment: Mapping[str, str]) -> URL:
    """Return the store's URL: given, from the environment, or the run's own; the password may come apart from it.

    Raises:
        ConfigError: it is not a URL of SQLite or PostgreSQL.
    """
    raw = given or secret_from(environment, URL_NAME) or default_url(run)
    try:
        url = make_url(raw)
    except ArgumentError as error:
        raise ConfigError(
            "the store must be a URL such as sqlite:////path/events.db or postgresql://user@host/name, got something "
            "else; mend it"
        ) from error
    backend = url.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise ConfigError(f"the store must be sqlite or postgresql, got {backend}; give a URL of one of these")
    if backend == "postgresql" and url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    password = secret_from(environment, PASSWORD)
    if password is not None and backend == "postgresql" and url.password is None:
        url = url.set(password=password)
    return url


def open_engine(url: URL | str, *, write_seconds: float = 10.0) -> Engine:
    """Return an engine whose tables are there and of this version; several processes may do this at once.

    Raises:
        StoreError: the store cannot be reached or written; says which one, never its password.
    """
    url = make_url(url)
    shown = url.render_as_string(hide_password=True)
    try:
        engine = _engine(url, write_seconds)
        with _alone(url):
            _migrate(engine)
        return engine
    except (ImportError, NoSuchModuleError) as error:
        raise CallError(
            f"a store at {shown} needs a driver that is not installed ({error}); `pip install '.[postgres]'`"
        ) from error
    except (SQLAlchemyError, OSError) as error:
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()
        raise StoreError(
            f"the store at {shown} must be reachable and writable, got: {cause[0] if cause else error!r}; start it, or "
            f"give another --store URL"
        ) from error


def _engine(url: URL, write_seconds: float) -> Engine:
    if url.get_backend_name() != "sqlite":
        milliseconds = int(write_seconds * 1000)
        options = f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}"
        arguments = {"connect_timeout": 3, "options": options}
        return create_engine(url, pool_pre_ping=True, pool_size=8, max_overflow=4, connect_args=arguments)
    engine = create_engine(url, connect_args={"timeout": write_seconds})

    @event.listens_for(engine, "connect")
    def _durable(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    return engine


@contextmanager
def _alone(url: URL) -> Iterator[None]:
    """Hold the lock beside a SQLite file: its own locks do not cover the switch to WAL and the making of tables."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        yield
        return
    handle = os.open(f"{url.database}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _migrate(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config

    with engine.begin() as connection:
        _lock(connection)
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("select pg_advisory_xact_lock(:number)"), {"number": _LOCK_NUMBER})
