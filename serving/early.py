"""Refusals at the socket: where too many slates wait for the model, a request is refused before it is parsed.

Refused by the framework, a request costs a third of a ranking; at twice the load that leaves rankings half of the time.
"""

import re
import time
from dataclasses import dataclass

from serving.edge import HEADERS, SLATE_PATHS, WAITING, Conditions, full_response, log_answer
from serving.metrics import Metrics
from serving.settings import Access, Keys, ServingConfig

_START = re.compile(rb"POST (%s) HTTP/1\.1\r\n" % b"|".join(re.escape(path.encode()) for path in sorted(SLATE_PATHS)))
_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*(?=\r\n)")
_KEY = re.compile(rb"\r\nx-api-key:[ \t]*([^\r\n]*?)[ \t]*\r\n", re.IGNORECASE)
_SPECIAL = re.compile(rb"\r\n(?:transfer-encoding|expect|upgrade|connection(?!:[ \t]*keep-alive[ \t]*\r\n))")
"""Heads that have these are the parser's."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The answer to a refused request, behind the status line and the server's own headers, and what is still to come.

    ``body_bytes`` of the request's body were not there yet: they belong to no other request.
    """

    rest: bytes
    body_bytes: int


class EarlyRefusals:
    """Refuses slates by the first bytes of their requests, as :class:`serving.edge.Edge` would.

    Args:
        metrics: where answers are counted.
        keys: who may call.
        config: limits.
        conditions: whether the server is full or draining.
    """

    def __init__(self, metrics: Metrics, *, keys: Keys, config: ServingConfig, conditions: Conditions) -> None:
        self._metrics, self._keys, self._config, self._conditions = metrics, keys, config, conditions
        self._rest = {path.encode(): _rest(path) for path in SLATE_PATHS}

    def of(self, data: bytes) -> Refused | None:
        """Return the refusal of what came first on a connection at rest; None where the request must be parsed."""
        started = time.perf_counter()
        begins = _START.match(data)
        if begins is None or not self._conditions.full() or self._conditions.draining():
            return None
        end = data.find(_END) + len(_END)
        missing = self._missing(data[:end], len(data) - end)
        if missing is None:
            return None
        route, seconds = begins[1].decode(), time.perf_counter() - started
        self._metrics.answered(route=route, status=429, seconds=seconds)
        if self._config.log_requests:
            log_answer(route=route, status=429, seconds=seconds)
        return Refused(rest=self._rest[begins[1]], body_bytes=missing)

    def _missing(self, head: bytes, came: int) -> int | None:
        """Return how much of the body has not come, None of a head that is not whole, not plain, or without a key."""
        if not head.endswith(_END) or len(head) > self._config.max_header_bytes:
            return None
        lower = head.lower()
        lengths = _LENGTH.findall(lower)
        if len(lengths) != 1 or lower.count(b"content-length") != 1 or _SPECIAL.search(lower):
            return None
        size = int(lengths[0])
        if size > self._config.max_body_bytes or came > size:
            return None
        key = _KEY.search(head)
        if self._keys.access_of(key[1].decode("latin-1") if key else "") is Access.NOTHING:
            return None
        return size - came


def _rest(path: str) -> bytes:
    response = full_response(path, WAITING)
    lines = [b"%s: %s\r\n" % (name, value) for name, value in (*response.raw_headers, *HEADERS)]
    return b"".join(lines) + b"\r\n" + bytes(response.body)
