"""What goes wrong in a process of Ray comes out as one line of ours."""

import errno
import os
import signal
from collections.abc import Iterator

import pytest

from pipelines.ray_session import RaySession, ray_session
from recsys.core.errors import DataError, WorkerError

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def session() -> Iterator[RaySession]:
    with ray_session() as opened:
        yield opened


def double(number: int) -> int:
    return 2 * number


def refuse() -> None:
    raise DataError("rows must have a user, got none; add the column")


def divide() -> float:
    return 1 / 0


def fill_the_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.safetensors")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_work_when_it_succeeds_then_its_result_comes_back_and_references_are_waited_for(session: RaySession) -> None:
    first = session.submit("first", double, 2)
    second = session.submit("second", double, first)
    done, waiting = session.wait([second], seconds=120)
    assert (done, waiting) == ([second], [])
    assert session.result(second) == 8


def test_error_of_ours_when_raised_there_then_is_raised_here_as_it_is(session: RaySession) -> None:
    with pytest.raises(DataError, match=r"^rows must have a user, got none; add the column$"):
        session.result(session.submit("stage data", refuse))


def test_error_of_a_library_when_raised_there_then_is_one_line_with_exit_code_1(session: RaySession) -> None:
    with pytest.raises(WorkerError) as caught:
        session.result(session.submit("stage model", divide))
    said = str(caught.value)
    assert said.startswith("stage model failed in another process: ZeroDivisionError: division by zero; ")
    assert "\n" not in said
    assert caught.value.exit_code == 1


def test_disk_when_it_is_full_there_then_is_one_line_that_says_what_to_do(session: RaySession) -> None:
    with pytest.raises(WorkerError, match=r"could not use a file.*No space left.*model\.safetensors.*free space"):
        session.result(session.submit("stage model", fill_the_disk))


def test_process_when_it_dies_then_is_one_line_that_says_to_run_again(session: RaySession) -> None:
    with pytest.raises(WorkerError) as caught:
        session.result(session.submit("stage model", die))
    said = str(caught.value)
    assert said.startswith("stage model ended with its process: ")
    assert "run the same command again" in said
    assert "\n" not in said


def test_session_when_one_is_open_then_it_is_shared_and_left_open(session: RaySession) -> None:
    with ray_session() as inner:
        assert inner.result(inner.submit("double", double, 3)) == 6
    assert session.result(session.submit("double", double, 4)) == 8
