"""Calls on the event loop: in order, one an iteration, with other work between; late and failing ones say why."""

import asyncio
import socket

import pytest

from serving.loop_queue import LoopQueue, arrivals_at
from serving.model import ModelUnavailableError, Refusal


def test_calls_when_many_wait_then_go_in_order_with_other_work_between() -> None:
    async def run() -> list[str]:
        queue, seen = LoopQueue(deadline_seconds=30), []

        async def ask(name: str) -> None:
            await queue.run(lambda: seen.append(name))

        async def other_work() -> None:
            while len(seen) < 6:
                seen.append("other")
                await asyncio.sleep(0)

        await asyncio.gather(*(ask(name) for name in "abc"), other_work())
        assert queue.waiting() == 0
        return seen

    seen = asyncio.run(run())
    assert [name for name in seen if name != "other"] == ["a", "b", "c"]
    assert "other" in seen[seen.index("a") : seen.index("c")]


def test_call_when_it_fails_or_waited_too_long_then_says_so_and_the_next_is_answered() -> None:
    async def run() -> None:
        queue = LoopQueue(deadline_seconds=30)

        def fail() -> None:
            raise ValueError("broken")

        failing, late, fine = await asyncio.gather(
            queue.run(fail), queue.run(lambda: 1, seconds=-1.0), queue.run(lambda: 2), return_exceptions=True
        )
        assert isinstance(failing, ModelUnavailableError)
        assert isinstance(late, ModelUnavailableError)
        assert (failing.refusal, late.refusal, fine) == (Refusal.ERROR, Refusal.LATE, 2)

    asyncio.run(run())


def test_call_when_whoever_asked_is_gone_then_is_not_made() -> None:
    async def run() -> None:
        queue, made = LoopQueue(deadline_seconds=30), []
        gone = asyncio.create_task(queue.run(lambda: made.append("gone")))
        stays = asyncio.create_task(queue.run(lambda: made.append("stays")))
        asyncio.get_running_loop().call_soon(gone.cancel)
        await asyncio.sleep(0)
        await stays
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert made[-1] == "stays"

    asyncio.run(run())


def test_expected_wait_when_nothing_waits_then_is_none() -> None:
    async def run() -> None:
        queue = LoopQueue(deadline_seconds=30)
        assert queue.expected_wait() == 0
        assert await queue.run(lambda: 1) == 1
        assert queue.expected_wait() == 0
        asked = [asyncio.create_task(queue.run(lambda: 1)) for _ in range(3)]
        await asyncio.sleep(0)  # all three have asked, and none was answered
        assert queue.waiting() == 3
        assert queue.expected_wait() > 0
        await asyncio.gather(*asked)

    asyncio.run(run())


def passes_before(arriving: list[bool]) -> int:
    """Return how many queue of the loop go by between a call's request and the call."""

    async def run() -> int:
        queue, passed, made = LoopQueue(deadline_seconds=30), 0, []
        queue.arrivals = lambda: arriving.pop(0) if arriving else False
        asked = asyncio.create_task(queue.run(lambda: made.append(1)))
        while not made:
            await asyncio.sleep(0)
            passed += 1
        await asked
        return passed

    return asyncio.run(run())


def test_call_when_connections_wait_then_is_made_after_them_but_not_behind_endless_ones() -> None:
    at_once = passes_before([])
    assert passes_before([True] * 3) == at_once + 3
    assert passes_before([True] * 1000) == at_once + 16


def test_arrivals_when_a_client_connects_then_are_told_until_it_is_accepted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arrivals = arrivals_at(listener)
        assert not arrivals()
        with socket.create_connection(listener.getsockname()):
            assert arrivals()
            accepted, _ = listener.accept()
            accepted.close()
            assert not arrivals()
