"""Owns one application's parts and how a recommendation and a batch of events are answered from them."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from recsys.contracts import History, Path, Request, Slate
from recsys.core.arrays import BoolArray, FloatArray, IntArray
from recsys.core.telemetry import LOG
from serving.fallback import Fallback, ItemTable
from serving.metrics import Metrics
from serving.problems import Fault, ProblemError, faults_of, shown
from serving.replica import ModelUnavailableError, Refusal, Replica
from serving.schemas import (
    EventIn,
    EventsResponse,
    HistoryEvent,
    ItemOut,
    PathOut,
    PathStep,
    RankedItem,
    RecommendRequest,
    RecommendResponse,
    Rejection,
)
from serving.store import Exposure, Store, StoredEvent

MAX_HISTORY = 1000
"""How many of a user's last events a model is shown."""

MAX_PRUNED = 20
"""How many pruned paths an explanation lists."""


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """Ranked items, who ranked them, and why it was not the model alone."""

    slate: Slate
    strategy: str
    refusal: Refusal | None


@dataclass(frozen=True, kw_only=True)
class Service:
    """Everything a route needs."""

    items: ItemTable
    fallback: Fallback
    replica: Replica
    store: Store
    metrics: Metrics

    @property
    def model_version(self) -> str:
        """The version that answers now."""
        bundle = self.replica.bundle
        return self.items.model_version if bundle is None else bundle.model_version

    def recommend(self, request: RecommendRequest) -> RecommendResponse:
        """Answer from the model, or from the fallback with ``degraded`` saying why."""
        user = None if request.user_id is None else str(request.user_id)
        stored = self.store.history(user, MAX_HISTORY) if user is not None and request.history is None else []
        history = self._known(stored) if request.history is None else self._given(request.history)
        eligible_N = self._eligible(request, user, history)
        answer = self._answer(user, history, eligible_N, request)
        if answer.refusal is not None:
            self.metrics.degraded(answer.refusal.value)
        elif user is not None and len(answer.slate.items):
            self.fallback.remember(user, answer.slate.items)
        response = self._response(answer, explain=request.explain)
        self._expose(response, user)
        return response

    def add_events(self, rows: Sequence[Any]) -> EventsResponse:
        """Store the good rows and say of each bad one what is wrong with it."""
        good: list[StoredEvent] = []
        rejected: list[Rejection] = []
        for index, row in enumerate(rows):
            try:
                good.append(self._event(row))
            except ValueError as error:
                rejected.append(Rejection(index=index, reason=_reason(error)))
        accepted = self.store.add_events(good)
        return EventsResponse(accepted=accepted, duplicates=len(good) - accepted, rejected=rejected)

    def search(self, query: str, limit: int) -> list[ItemOut]:
        """Find items by words of their title."""
        return [
            ItemOut(
                item_id=self.items.item_ids[index],
                title=self.items.titles[index],
                categories=list(self.items.categories[index]),
            )
            for index in self.items.search(query, limit)
        ]

    def _event(self, row: Any) -> StoredEvent:
        event = EventIn.model_validate(row)
        index = self.items.index_of(event.item_id)
        if index is None:
            raise ValueError(
                f"item_id must be an item of the catalogue, got {shown(event.item_id)}; send the item first"
            )
        return StoredEvent(
            event_id=str(event.event_id),
            user_id=str(event.user_id),
            item_id=str(self.items.item_ids[index]),
            event_type=event.event_type,
            timestamp=event.timestamp,
            request_id=None if event.request_id is None else str(event.request_id),
        )

    def _known(self, events: Sequence[tuple[str, int]]) -> History:
        known = [(index, at) for item_id, at in events if (index := self.items.index_of(item_id)) is not None]
        pairs = np.asarray(known, dtype=np.int64).reshape(-1, 2)
        return History(items=pairs[:, 0].copy(), timestamps=pairs[:, 1].copy())

    def _given(self, events: Sequence[HistoryEvent]) -> History:
        times = [event.timestamp for event in events]
        latest = next((at for at in times if at is not None), int(time.time()))
        pairs: list[tuple[str, int]] = []
        for event in events:
            latest = latest if event.timestamp is None else event.timestamp
            pairs.append((str(event.item_id), latest))
        if None not in times:
            pairs.sort(key=lambda pair: pair[1])
        return self._known(pairs)

    def _eligible(self, request: RecommendRequest, user: str | None, history: History) -> BoolArray:
        eligible_N = np.ones(len(self.items), dtype=np.bool_)
        if request.filter is not None:
            members = self.items.members(request.filter.category)
            if members is None:
                raise _unknown_category(request.filter.category)
            eligible_N[:] = False
            eligible_N[members] = True
        eligible_N[history.items] = False
        eligible_N[self.items.indices_of(request.exclude)] = False
        if user is not None:
            eligible_N[self.items.indices_of(self.store.seen(user))] = False
        return eligible_N

    def _answer(self, user: str | None, history: History, eligible_N: BoolArray, request: RecommendRequest) -> _Answer:
        wanted = min(request.n, int(eligible_N.sum()))
        if wanted == 0:
            nothing = Slate(items=np.empty(0, np.int64), scores=np.empty(0, np.float32))
            return _Answer(slate=nothing, strategy="nothing_eligible", refusal=None)
        try:
            asked = Request(history=history.last(MAX_HISTORY), n=wanted, eligible_N=eligible_N)
            checked = self.replica.recommend(asked, explain=request.explain)
        except ModelUnavailableError as error:
            strategy, items = self.fallback.recommend(
                user_id=user, history=history.items, eligible_N=eligible_N, n=wanted
            )
            return _Answer(slate=Slate(items=items, scores=_by_rank(items)), strategy=strategy, refusal=error.refusal)
        if checked.illegal:
            LOG.error("the model returned %d items that must not be shown; they were taken out", checked.illegal)
            self.metrics.illegal_items(checked.illegal)
        slate, missing = checked.slate, wanted - len(checked.slate.items)
        if missing:
            open_N = eligible_N.copy()
            open_N[slate.items] = False
            _, more = self.fallback.recommend(user_id=user, history=history.items, eligible_N=open_N, n=missing)
            slate = _filled_up(slate, more)
        refusal = Refusal.ILLEGAL if checked.illegal else Refusal.SHORT if missing else None
        return _Answer(slate=slate, strategy="recsys", refusal=refusal)

    def _response(self, answer: _Answer, *, explain: bool) -> RecommendResponse:
        ranked: list[RankedItem] = []
        slate = answer.slate
        for place, (index, score) in enumerate(zip(slate.items.tolist(), slate.scores.tolist(), strict=True)):
            item = RankedItem(item_id=self.items.item_ids[index], title=self.items.titles[index], score=score)
            if explain:
                paths = slate.paths[place] if place < len(slate.paths) else ()
                item.path = self._path(max(paths, key=lambda path: path.log_prob)) if paths else None
            ranked.append(item)
        response = RecommendResponse(
            request_id=uuid.uuid4().hex,
            model_version=self.model_version,
            strategy=answer.strategy,
            degraded=None if answer.refusal is None else answer.refusal.value,
            items=ranked,
        )
        if explain:
            response.pruned = [self._path(path) for path in slate.pruned[:MAX_PRUNED]]
        return response

    def _path(self, path: Path) -> PathOut:
        steps = [
            PathStep(
                codebook=step.codebook,
                code=step.code,
                facet=self._facet(step.codebook, step.code),
                confidence=float(np.nan_to_num(step.confidence)),
            )
            for step in path.steps
        ]
        words = " > ".join(step.facet for step in steps)
        return PathOut(steps=steps, words=words, pruned=path.pruned, reason=path.reason)

    def _facet(self, codebook: int, code: int) -> str:
        bundle = self.replica.bundle
        words = None if bundle is None else bundle.catalogue.facets.get((codebook, code))
        if not words:
            return f"codebook {codebook}, code {code}"
        return words if isinstance(words, str) else ", ".join(str(word) for word in words)

    def _expose(self, response: RecommendResponse, user: str | None) -> None:
        exposure = Exposure(
            request_id=response.request_id,
            user_id=user,
            item_ids=[str(item.item_id) for item in response.items],
            scores=[item.score for item in response.items],
            model_version=response.model_version,
        )
        try:
            self.store.add_exposure(exposure)
        except SQLAlchemyError as error:
            # The answer is still good; only tomorrow's training misses it, and the counter says so.
            LOG.error("exposures of request %s were not stored: %s", response.request_id, error)
            self.metrics.lost_exposures()


def _by_rank(items: IntArray) -> FloatArray:
    """Return 1, 1/2, 1/3, ...: an order, not a probability."""
    return (1.0 / np.arange(1, len(items) + 1)).astype(np.float32)


def _filled_up(slate: Slate, more: IntArray) -> Slate:
    lowest = float(slate.scores[-1]) if len(slate.scores) else 0.0
    return Slate(
        items=np.concatenate([slate.items, more]),
        scores=np.concatenate([slate.scores, np.full(len(more), lowest, np.float32)]),
        paths=slate.paths,
        pruned=slate.pruned,
    )


def _unknown_category(category: str) -> ProblemError:
    fault = Fault(
        where="body.filter.category",
        wanted="a category of the catalogue",
        came=shown(category),
        change="use a category that GET /v1/items shows, or leave the filter out",
    )
    return ProblemError(422, "filter.category must be a category of the catalogue", faults=[fault])


def _reason(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    faults = faults_of(error.errors(include_url=False))
    return "; ".join(f"{fault.where}: {fault.wanted}, got {fault.came}" for fault in faults[:5])
