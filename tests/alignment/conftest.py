"""The generator and the log that tests of alignment share."""

import pytest

from recsys.data.events import EventLog
from recsys.model.generator import Generator
from tests.support.alignment_world import circle


@pytest.fixture
def world(one_thread: None) -> tuple[Generator, EventLog]:  # noqa: ARG001 (one thread: equal seeds give equal weights)
    """Return a fresh generator and a log of users who walk the circle of its items."""
    return circle()
