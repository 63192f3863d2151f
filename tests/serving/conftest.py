"""The small shop, and stores on both databases, as fixtures."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, text

from tests.support.postgres import cluster, missing
from tests.support.small_shop import Fake, make_run, opened


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def client(shop: Path, fake: Fake) -> Iterator[TestClient]:
    with opened(shop, fake) as client:
        yield client


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a private PostgreSQL server; skips where none can be started."""
    if reason := missing():
        pytest.skip(reason)
    with cluster() as url:
        yield url


@pytest.fixture
def postgres_url(postgres: str) -> str:
    """The URL of a fresh database on it."""
    name = f"test_{uuid.uuid4().hex}"
    server = create_engine(f"{postgres}/postgres", isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"create database {name}"))
    server.dispose()
    return f"{postgres}/{name}"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def any_store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, on each database in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    found: str = request.getfixturevalue("postgres_url")
    return found
