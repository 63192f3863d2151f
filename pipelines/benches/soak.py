"""Bench soak: a server under steady load and faults; whether its memory grows, answers fail, or latency drifts.

Axes: R sample of memory.
"""

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.benches.load import Answer, open_loop
from pipelines.benches.measure import Line
from pipelines.benches.one_server import Target, load_run, milliseconds, one_server, request_bodies
from recsys.core.seeds import rng_for

SECONDS, RATE, CHUNK_SECONDS, FAULT_SECONDS, WARM_UP = 600.0, 20.0, 2.0, 0.5, 0.25
LIMIT = 1.0
"""Megabytes a minute that memory may grow by after warm-up."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Resident megabytes of a server and its children, so many seconds after the start."""

    seconds: float
    megabytes: float


@dataclass(frozen=True, kw_only=True)
class Soaked:
    """What a server did under load and faults; ``failed`` counts what went wrong, by the call and the answer."""

    memory: tuple[Memory, ...]
    answers: tuple[Answer, ...]
    failed: Counter[str]
    faults: Counter[str]
    beside_swaps: tuple[Answer, ...] = ()
    """The answers of the seconds in which a release was swapped."""

    @property
    def slope(self) -> float:
        """Megabytes a minute after warm-up, by least squares."""
        return slope_per_minute(self.memory)

    @property
    def leaks(self) -> bool:
        """Whether memory grows faster than it may."""
        return self.slope > LIMIT


def bench_soak(run: Path, *, seconds: float = SECONDS) -> list[Line]:
    """Load a run's server steadily while clients misbehave, releases are swapped and items come and go."""
    prepared = load_run(run)
    items = [str(item_id) for item_id in prepared.items["item_id"].to_pylist()]
    with one_server(run) as target:
        soaked = soak(target, request_bodies(prepared, 2000), items, seconds=seconds)
    third = len(soaked.answers) // 3
    early, late = soaked.answers[third : 2 * third], soaked.answers[2 * third :]
    return [
        Line(what=f"MB a minute after warm-up (at most {LIMIT:g})", ours=soaked.slope, unit="MB"),
        Line(what="memory at the end", ours=soaked.memory[-1].megabytes, unit="MB"),
        Line(what=f"answers over {seconds:g} s", ours=len(soaked.answers), unit="count"),
        Line(what="answers that failed", ours=soaked.failed.total(), unit="count"),
        *(Line(what=f"failed: {name}", ours=count, unit="count") for name, count in sorted(soaked.failed.items())),
        *(Line(what=f"faults: {name}", ours=count, unit="count") for name, count in sorted(soaked.faults.items())),
        Line(what="p99 of the second third", ours=milliseconds([one.seconds for one in early], 99), unit="ms"),
        Line(what="p99 of the last third", ours=milliseconds([one.seconds for one in late], 99), unit="ms"),
        Line(
            what="p99 while a release is swapped",
            ours=milliseconds([one.seconds for one in soaked.beside_swaps], 99),
            unit="ms",
        ),
    ]


def soak(
    target: Target, bodies: Sequence[bytes], items: Sequence[str], *, seconds: float, rate: float = RATE
) -> Soaked:
    """Send requests at a steady rate and faults beside them, and note the server's memory.

    Args:
        target: the server.
        bodies: requests to recommend, sent by turns.
        items: ids of items that events name.
        seconds: how long.
        rate: requests a second.
    """
    began, memory, answers = time.monotonic(), [], []
    beside_swaps: list[Answer] = []
    stop, faults = threading.Event(), Faults(target, items)
    thread = threading.Thread(target=faults.run, args=(stop,), daemon=True)
    thread.start()
    size = max(1, int(rate * CHUNK_SECONDS))
    number = 0
    while time.monotonic() - began < seconds:
        chunk = [bodies[(number * size + place) % len(bodies)] for place in range(size)]
        swaps = faults.swaps
        came = open_loop(target.port, chunk, rate=rate, seed=number)
        answers += came
        beside_swaps += came if faults.swaps != swaps else []
        memory.append(Memory(seconds=time.monotonic() - began, megabytes=resident_megabytes(target.pid)))
        number += 1
    stop.set()
    thread.join()
    failed = Counter(f"recommend {answer.status}" for answer in answers if answer.status >= 500) + faults.failed
    return Soaked(
        memory=tuple(memory),
        answers=tuple(answers),
        failed=failed,
        faults=faults.done,
        beside_swaps=tuple(beside_swaps),
    )


class Faults:
    """Clients that misbehave, and work of administrators, in a random order that a seed fixes."""

    def __init__(self, target: Target, items: Sequence[str]) -> None:
        self._target, self._items = target, items
        self._rng = rng_for(0, "bench", "soak")
        self._versions = list(target.versions)
        self.done: Counter[str] = Counter()
        self.swaps = 0
        """Swaps that were begun or are over: it rises twice with each."""
        self.failed: Counter[str] = Counter()

    def run(self, stop: threading.Event) -> None:
        """Do one thing after the other until stopped."""
        deeds: list[Callable[[], None]] = [self.garbage, self.hang_up, self.half_a_body, self.malformed, self.events]
        deeds += [self.item, self.forget] + ([self.swap] if self._versions else [])
        while not stop.wait(FAULT_SECONDS):
            deed = deeds[int(self._rng.integers(len(deeds)))]
            name = deed.__name__.replace("_", " ")
            try:
                deed()
            except OSError as error:
                self.failed[f"{name}: {type(error).__name__}"] += 1
            self.done[name] += 1

    def garbage(self) -> None:
        """Send bytes that are no HTTP."""
        self._raw(self._rng.bytes(200))

    def hang_up(self) -> None:
        """Send a sound request and go before its answer."""
        body = b'{"history": []}'
        self._raw(_HEAD % len(body) + body)

    def half_a_body(self) -> None:
        """Send the head of a request and a part of its body."""
        self._raw(_HEAD % 1000 + b'{"history": [')

    def malformed(self) -> None:
        """Send JSON that is no request; a server that is full at the moment refuses it before it reads that."""
        self._expect("POST", "/v1/recommend", {"n": "many"}, 422, 429)

    def events(self) -> None:
        """Send good events and bad ones."""
        now = int(time.time())
        chosen = self._rng.integers(len(self._items), size=20).tolist()
        rows = [
            {
                "event_id": f"{now}-{self.done['events']}-{place}",
                "user_id": f"soak-{place % 5}",
                "item_id": self._items[row],
                "event_type": "view",
                "timestamp": now,
            }
            for place, row in enumerate(chosen)
        ]
        self._expect("POST", "/v1/events", [*rows, {"event_id": "bad"}], 202)

    def item(self) -> None:
        """Take an item off sale and put it back."""
        item = self._items[int(self._rng.integers(len(self._items)))]
        self._expect("PUT", "/v1/items", [{"item_id": item, "available": False}], 200)
        self._expect("PUT", "/v1/items", [{"item_id": item, "available": True}], 200)

    def forget(self) -> None:
        """Delete a user."""
        self._expect("DELETE", f"/v1/users/soak-{int(self._rng.integers(5))}", None, 200)

    def swap(self) -> None:
        """Swap to the release that is not current."""
        self._versions.reverse()
        self.swaps += 1
        self._expect("POST", f"/v1/models/{self._versions[0]}/activate", None, 200)
        self.swaps += 1

    def _expect(self, method: str, path: str, body: object, *statuses: int) -> None:
        came, _ = self._target.call(method, path, body)
        if came not in statuses:
            self.failed[f"{method} {path.split('/')[2]} {came} instead of {statuses[0]}"] += 1

    def _raw(self, sent: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self._target.port), timeout=5) as wire:
            wire.sendall(sent)


_HEAD = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def slope_per_minute(memory: Sequence[Memory]) -> float:
    """Return by how many megabytes a minute memory grows after the first quarter, by least squares."""
    until = memory[-1].seconds * WARM_UP
    after = [one for one in memory if one.seconds >= until]
    if len(after) < 2:
        return float("nan")
    minutes_R = np.array([one.seconds for one in after]) / 60
    slope, _ = np.polyfit(minutes_R, np.array([one.megabytes for one in after]), 1)
    return float(slope)


def resident_megabytes(pid: int) -> float:
    """Return the resident memory of a process and all that it started."""
    total, waiting = 0.0, [pid]
    while waiting:
        one = waiting.pop()
        try:
            status = Path(f"/proc/{one}/status").read_text(encoding="utf-8")
            waiting += map(int, Path(f"/proc/{one}/task/{one}/children").read_text(encoding="utf-8").split())
        except OSError:
            continue  # it ended meanwhile
        total += next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")), 0) / 1024
    return total
