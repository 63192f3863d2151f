"""The trivial peer of bench serve: FastAPI, one matrix, the mean of a history's vectors, the best ten products.

It has no store, no model and no checks; it shows what the web stack alone costs. Started by uvicorn with the number of
items and the width of vectors in the environment.
"""

import os

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

ITEMS, WIDTH = "RECSYS_BENCH_ITEMS", "RECSYS_BENCH_WIDTH"


class Event(BaseModel):
    """One item of a history, by row."""

    item_id: int


class Query(BaseModel):
    """A history and how many items are wanted."""

    history: list[Event]
    n: int = 10


class Ranked(BaseModel):
    """One item and its score."""

    item_id: int
    score: float


def make_app() -> FastAPI:
    """Return the application; its vectors are random."""
    items, width = int(os.environ[ITEMS]), int(os.environ[WIDTH])
    vectors_ND = np.random.default_rng(0).standard_normal((items, width)).astype(np.float32)
    app = FastAPI()

    @app.post("/v1/recommend")
    async def recommend(query: Query) -> list[Ranked]:
        rows = np.array([event.item_id for event in query.history]) % items
        scores_N = vectors_ND @ vectors_ND[rows].mean(axis=0)
        scores_N[rows] = -np.inf
        best = np.argpartition(-scores_N, query.n)[: query.n]
        best = best[np.argsort(-scores_N[best])]
        return [Ranked(item_id=int(row), score=float(scores_N[row])) for row in best]

    return app
