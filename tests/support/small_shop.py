"""Six items behind the API, with a recommender that ranks by row: small enough to work every answer out by hand."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path as FilePath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fastapi.testclient import TestClient

from recsys.contracts import History, Path, Request, Slate, Step
from recsys.core.errors import ArtifactError
from recsys.recommender.manifest import write_manifest
from serving.app import create_app
from serving.service import Service
from serving.settings import ServingConfig

# Ids are strings that look like numbers. Counts make the popular order 13, 11, 15, 10, 12, 14.
IDS = ["10", "11", "12", "13", "14", "15"]
CATEGORIES = [["Film", "Noir"], ["Film", "Noir"], ["Film", "Comedy"], ["Film", "Comedy"], None, ["Film", "Noir"]]
COUNTS = [3, 5, 2, 9, 1, 4]
PRICES = [1.0, 2.0, 3.0, 4.0, None, 6.0]
BRANDS = ["A", "A", "B", "B", "C", None]
CODES_NM = np.array([[7, 2], [7, 3], [8, 2], [8, 3], [9, 2], [9, 3]])
FACETS = {(0, 7): "crime", (0, 8): "love", (0, 9): "war", (1, 2): "night", (1, 3): "day"}


class Fake:
    """Ranks the eligible items by row, with one live path each and one pruned path; scores 0, -1, -2 ... by row."""

    name = "fake"

    def __init__(self, answer: Callable[[Slate], Slate] = lambda slate: slate) -> None:
        self.answer = answer
        self.histories: list[History] = []

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        return [self._one(request) for request in requests]

    def _one(self, request: Request) -> Slate:
        assert request.eligible_N is not None
        self.histories.append(request.history)
        items = np.flatnonzero(request.eligible_N)[: request.n]
        live = Path(
            steps=(Step(codebook=1, code=2, confidence=0.5), Step(codebook=0, code=7, confidence=0.25)),
            log_prob=-1.0,
        )
        cut = Path(steps=(Step(codebook=0, code=7, confidence=0.1),), log_prob=-3.0, pruned=True, reason="contradicts")
        scores = -items.astype(np.float32)
        return self.answer(Slate(items=items, scores=scores, paths=((live,),) * len(items), pruned=(cut,)))


def make_run(folder: FilePath, *, ids: Sequence[Any] = IDS, bundle: str = "bundle") -> FilePath:
    """Write a run folder whose bundle holds no model, which a loader gives."""
    place = folder / bundle
    place.mkdir(parents=True)
    columns = {"item_id": list(ids), "title": [f"Title {id_}" for id_ in ids]}
    if len(ids) == len(IDS):
        columns |= {"categories": CATEGORIES, "price": PRICES, "brand": BRANDS}
    pq.write_table(pa.table(columns), place / "items.parquet")
    (place / "popularity.json").write_text(json.dumps({"counts": COUNTS[: len(ids)]}))
    seal(place)
    return folder


def seal(bundle: FilePath) -> str:
    """Write the manifest that belongs to a bundle's files, and return its version."""
    return write_manifest(bundle, kept={}, validation=[]).model_version


def version_of(run: FilePath, bundle: str = "bundle") -> str:
    """Return the version of a run's bundle."""
    found: str = json.loads((run / bundle / "manifest.json").read_text())["model_version"]
    return found


def bundle_of(fake: Fake, folder: FilePath, **changes: Any) -> Any:
    """Return what the project's loader would, around a fake model."""
    ids = pq.read_table(folder / "items.parquet")["item_id"].to_pylist()
    catalogue = SimpleNamespace(facets=FACETS, item_ids=ids, codes_NM=CODES_NM[: len(ids)])
    version = json.loads((folder / "manifest.json").read_text())["model_version"]
    parts = {"recommender": fake, "ranker": fake, "catalogue": catalogue, "model_version": version}
    parts["explains_search"] = False
    return SimpleNamespace(**parts | changes)


@contextmanager
def opened(run: FilePath, fake: Fake | None, *, wait: bool = True, **more: Any) -> Iterator[TestClient]:
    """Open a client of a server whose model is a fake, or cannot be loaded."""

    def loader(folder: FilePath) -> Any:
        if fake is None:
            raise ArtifactError("no model here")
        return bundle_of(fake, folder)

    # A machine that is busy with other things is no late model: only tests that ask for deadlines have short ones.
    config = ServingConfig(**{"deadline_seconds": 30, "store_seconds": 30} | more.pop("config", {}))
    with TestClient(create_app(run, **{"loader": loader, "config": config} | more)) as client:
        if wait:
            settle(client)
            if fake is not None:
                fake.histories.clear()  # those of the warm-up
        yield client


def service_of(client: TestClient) -> Service:
    """Return the service behind a client."""
    found: Service = client.app.state.service  # type: ignore[attr-defined]
    return found


def settle(client: TestClient) -> None:
    """Wait until the first model is loaded, or is known not to be."""
    assert service_of(client).releases.wait(10)


def ids(answer: Any) -> list[Any]:
    """Return the ids of an answer's items."""
    assert answer.status_code == 200, answer.text
    return [item["item_id"] for item in answer.json()["items"]]


def event(event_id: str, item_id: Any, at: Any = 100, user: Any = "u", **more: Any) -> dict[str, Any]:
    """Return an event as a client sends it."""
    return {"event_id": event_id, "user_id": user, "item_id": item_id, "event_type": "view", "timestamp": at} | more


def is_problem(answer: Any, status: int) -> bool:
    """Tell whether an answer is a problem document of a status."""
    body = answer.json()
    return (
        answer.status_code == status == body["status"]
        and answer.headers["content-type"] == "application/problem+json"
        and {"type", "title", "detail", "instance"} <= body.keys()
    )
