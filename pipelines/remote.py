"""A served endpoint as a recommender: one HTTP request per history, each timed."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from recsys.contracts import Request, Slate
from recsys.core.errors import CallError, DataError
from recsys.data.vocabulary import UNKNOWN, Vocabulary

LONGEST_HISTORY = 10_000
"""What one request of the API may hold."""

Post = Callable[[str, dict[str, Any]], Any]
"""Sends JSON to a URL and returns the JSON of the answer."""


class RemoteRecommender:
    """Calls ``POST /v1/recommend`` of a server for each history.

    ``degraded`` counts answers that did not come from the model; ``latencies_ms`` holds the milliseconds of each.
    """

    def __init__(self, url: str, items: Vocabulary, *, post: Post | None = None, key: str = "") -> None:
        if not url.startswith(("http://", "https://")):
            raise CallError(f"--url must begin with http:// or https://, got {url!r}; give a server's address")
        self.name = f"served: {url}"
        self.items = items
        self.latencies_ms: list[float] = []
        self.degraded = 0
        self._url = url.rstrip("/") + "/v1/recommend"
        self._post = post or _poster(key)

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Return one slate per request; items that this catalogue lacks are refused."""
        return [self._one(request) for request in requests]

    def _one(self, request: Request) -> Slate:
        events = request.history.last(LONGEST_HISTORY)
        body = {
            "history": [
                {"item_id": self.items.ids[item], "timestamp": moment}
                for item, moment in zip(events.items.tolist(), events.timestamps.tolist(), strict=True)
            ],
            "n": request.n,
        }
        began = time.perf_counter()
        answer = self._post(self._url, body)
        self.latencies_ms.append(1000 * (time.perf_counter() - began))
        self.degraded += answer.get("degraded") is not None
        rows_S = self.items.find(row["item_id"] for row in answer["items"]).rows_V
        if (rows_S == UNKNOWN).any():
            raise DataError(
                f"{self._url} must serve this run's catalogue, got an item that it lacks; replay the run that is served"
            )
        scores_S = np.array([row["score"] for row in answer["items"]], np.float32)
        return Slate(items=rows_S, scores=scores_S)


def _poster(key: str) -> Post:
    headers = {"content-type": "application/json"} | ({"x-api-key": key} if key else {})

    def post(url: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise DataError(
                f"{url} must answer 200, got {error.code}: {error.read()[:300]!r}; mend the call"
            ) from error
        except (OSError, ValueError) as error:
            raise DataError(
                f"{url} must answer with JSON, got {error}; start the server with `recsys serve`"
            ) from error

    return post
