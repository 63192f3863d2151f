"""Threads for calls that may hang: what calls return, who waits no longer, and that nothing of a call is kept."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Awaitable, Callable

import pytest

from serving.pool import Pool, PoolFullError


class Large:
    """Something whose end can be seen."""


async def busy(pool: Pool, gate: threading.Event) -> "asyncio.Future[bool]":
    """Return a call that a thread of the pool has begun, and that ends when the gate opens."""
    began = threading.Event()

    def hold() -> bool:
        began.set()
        return gate.wait(30)

    call = asyncio.ensure_future(pool.run(hold, 30))
    while not began.is_set():
        await asyncio.sleep(0)
    return call


def in_loop(work: Callable[[Pool], Awaitable[None]], *, size: int = 1, waiting: int = 4) -> None:
    """Run work on an event loop with a pool, and close the pool."""

    async def run() -> None:
        pool = Pool("test", size=size, waiting=waiting)
        try:
            await work(pool)
        finally:
            pool.close()

    asyncio.run(run())


def test_run_when_a_call_has_returned_then_the_waiting_thread_keeps_neither_the_call_nor_its_result() -> None:
    async def work(pool: Pool) -> None:
        given, result = Large(), Large()
        kept = (weakref.ref(given), weakref.ref(result))
        assert await pool.run(lambda given=given, result=result: (given, result)[1], 10) is result  # type: ignore[misc]
        del given, result
        until = time.monotonic() + 30
        while any(one() is not None for one in kept):  # the thread lets go a moment after it has told the result
            assert time.monotonic() < until
            await asyncio.sleep(0)

    gc.disable()
    try:
        in_loop(work)
    finally:
        gc.enable()


def test_run_when_a_call_raises_then_the_waiting_one_gets_its_error() -> None:
    async def work(pool: Pool) -> None:
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda: 1 // 0, 10)
        assert await pool.run(lambda: 7, 10) == 7

    in_loop(work)


def test_run_when_a_call_waits_too_long_for_a_thread_then_it_is_dropped() -> None:
    gate, done = threading.Event(), []

    async def work(pool: Pool) -> None:
        first = await busy(pool, gate)
        with pytest.raises(TimeoutError):
            await pool.run(lambda: done.append("late"), 0)
        gate.set()
        await first
        await pool.run(lambda: done.append("after"), 30)
        assert done == ["after"]

    in_loop(work)


def test_close_when_calls_wait_then_they_are_cancelled() -> None:
    gate = threading.Event()

    async def work(pool: Pool) -> None:
        first = await busy(pool, gate)
        second = asyncio.ensure_future(pool.run(lambda: None, 30))
        await asyncio.sleep(0)
        pool.close()
        with pytest.raises(asyncio.CancelledError):
            await second
        gate.set()
        assert await first is True

    in_loop(work)


def test_run_when_the_queue_is_full_then_refuses() -> None:
    gate = threading.Event()

    async def work(pool: Pool) -> None:
        first = await busy(pool, gate)
        second = asyncio.ensure_future(pool.run(lambda: None, 30))
        await asyncio.sleep(0)
        with pytest.raises(PoolFullError):
            await pool.run(lambda: None, 30)
        gate.set()
        await asyncio.gather(first, second)

    in_loop(work, waiting=1)
