"""One recommendation from request to answer: the model under its deadline, else the fallback, then the log."""

import time
import uuid
from dataclasses import dataclass

import numpy as np

from recsys.core.telemetry import LOG
from recsys.data.ids import wire_id
from serving.answers import pruned_paths, ranked_items
from serving.asking import Question, question
from serving.compose import Composed, Place, compose
from serving.fallback import fallback_ranker
from serving.histories import KnownUser
from serving.model import ModelRanker, ModelUnavailableError, Refusal, model_of
from serving.plan import add_exploration
from serving.schemas.recommend import RankingRequest, RecommendRequest, RecommendResponse
from serving.service import Service
from serving.split import release_for
from serving.store.slates import Exposure

MODEL, NOTHING = "recsys", "nothing_eligible"
FALLBACK_VERSION = "fallback"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A slate, who ranked it, and why it was not the model alone."""

    composed: Composed
    strategy: str
    refusal: Refusal | None

    @property
    def by_model(self) -> bool:
        """Whether a model ranked it."""
        return self.strategy == MODEL


async def recommend(service: Service, request: RecommendRequest) -> RecommendResponse:
    """Answer from the model, or from the fallback with ``degraded`` saying why; never fails for want of either."""
    began = service.last_good_answers.forgotten
    with service.stage("question"):
        asked = await ask_for(service, request, n=request.n)
    add_exploration(asked.question.plan, service.config)
    with service.stage("answer"):
        answer = await answer_of(service, asked.question, explain=request.explain, until=asked.until)
    refusal = answer.refusal or (Refusal.HISTORY if asked.stale else None)
    response = _response(asked.question, answer, refusal, explain=request.explain)
    service.metrics.recommended(answer.strategy, response.degraded)
    service.exposures.add(_exposure(service, request, response, asked, answer))
    if answer.by_model and refusal is None:
        ids = asked.question.release.items.item_ids
        shown = [ids[place.row] for place in answer.composed.places]
        if request.user_id is not None and shown:
            service.last_good_answers.keep(request.user_id, shown, began=began)
        service.shadow.compare(request, asked.known, service.context(), request_id=response.request_id, shown=shown)
    return response


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question, the history of its user, and the user's arm where two releases are compared.

    ``until`` is the monotonic time at which a request that gave ``timeout_ms`` must be answered.
    """

    question: Question
    known: KnownUser | None
    arm: str | None
    until: float | None = None

    @property
    def stale(self) -> bool:
        """Whether the store could not say what the user did."""
        return self.known is not None and self.known.stale


async def ask_for(service: Service, request: RankingRequest, *, n: int, reasons: bool = False) -> Asked:
    """Return the question of a request to the release that answers its user now."""
    until = None if request.timeout_ms is None else time.monotonic() + request.timeout_ms / 1000
    with service.stage("history"):
        within, user_id = seconds_left(until), request.user_id
        known = None if user_id is None else await service.histories.of(user_id, seconds=within)
    release, arm = release_for(service.releases, service.config, request.user_id)
    found = question(release, request, known, service.context(), n=n, reasons=reasons)
    return Asked(question=found, known=known, arm=arm, until=until)


def seconds_left(until: float | None) -> float | None:
    """Return the seconds until a moment of the monotonic clock, 0 where it is over; None where there is none."""
    return None if until is None else max(0.0, until - time.monotonic())


async def answer_of(service: Service, asked: Question, *, explain: bool, until: float | None = None) -> Answer:
    """Return a question's answer, checked and filled up where the model left places open."""
    plan, release = asked.plan, asked.release
    plan.n = min(plan.n, int(np.count_nonzero(plan.eligible_N)))
    if plan.n == 0:
        return Answer(composed=Composed(places=()), strategy=NOTHING, refusal=None)
    try:
        model = model_of(release)
        ranker = ModelRanker(
            recommender=model.recommender if explain else model.ranker,
            history=asked.history,
            whole_catalogue=asked.whole_catalogue,
        )
        # A single call of a fast ranker runs on the event loop and waits for no other thread.
        queue = service.loop_queue if release.has_fast_ranker and plan.plain and not explain else service.model
        with service.stage("model"):
            composed = await queue.run(lambda: compose(plan, ranker, service.rng), seconds=seconds_left(until))
    except ModelUnavailableError as error:
        return _without_model(service, asked, error.refusal)
    if illegal := ranker.illegal:
        LOG.error("the model returned %d items that must not be shown; they were taken out", illegal)
        service.metrics.illegal_items(illegal)
    missing = plan.n - len(composed.places)
    if missing and not plan.caps:
        composed = _filled_up(service, asked, composed, missing)
    refusal = Refusal.ILLEGAL if illegal else Refusal.SHORT if missing and not plan.caps else None
    return Answer(composed=composed, strategy=MODEL, refusal=refusal)


def _without_model(service: Service, asked: Question, refusal: Refusal) -> Answer:
    """Return the fallback's slate under the same plan; what is not ranked by a model is not explored."""
    asked.plan.exploration = None
    with service.stage("fallback"):
        return _ranked_by_fallback(service, asked, refusal)


def _ranked_by_fallback(service: Service, asked: Question, refusal: Refusal) -> Answer:
    ranker = fallback_ranker(asked.release.items, asked.history.items, service.last_good_answers.of(asked.user_id))
    composed = compose(asked.plan, ranker, service.rng)
    first = np.asarray([place.row for place in composed.places[:1]], np.int64)
    return Answer(composed=composed, strategy=ranker.strategy(first), refusal=refusal)


def _filled_up(service: Service, asked: Question, composed: Composed, missing: int) -> Composed:
    """Return a slate with its open places filled from the fallback, below all that the model scored."""
    open_N = asked.plan.eligible_N.copy()
    open_N[[place.row for place in composed.places]] = False
    ranker = fallback_ranker(asked.release.items, asked.history.items, service.last_good_answers.of(asked.user_id))
    (more,) = ranker.rank([open_N], missing)
    lowest = composed.places[-1].score if composed.places else 0.0
    tail = tuple(Place(row=row, score=lowest) for row in more.items.tolist())
    return Composed(places=(*composed.places, *tail), pruned=composed.pruned)


def _response(asked: Question, answer: Answer, refusal: Refusal | None, *, explain: bool) -> RecommendResponse:
    response = RecommendResponse(
        request_id=uuid.uuid4().hex,
        model_version=asked.release.version if answer.by_model else FALLBACK_VERSION,
        strategy=answer.strategy,
        degraded=None if refusal is None else refusal.value,
        items=ranked_items(asked.release, answer.composed, asked.plan, explain=explain),
    )
    if explain:
        response.pruned = pruned_paths(asked.release.facets, answer.composed.pruned)
    if asked.plan.rules:
        response.rules = list(asked.plan.rules)
    if asked.unknown:
        response.unknown_items = [wire_id(item_id) for item_id in asked.unknown]
    return response


def _exposure(
    service: Service, request: RecommendRequest, response: RecommendResponse, asked: Asked, answer: Answer
) -> Exposure:
    release, places = asked.question.release, answer.composed.places
    propensities: list[float | None] = [place.propensity if answer.by_model else None for place in places]
    known = [value for value in propensities if value is not None]
    ids = release.items.item_ids
    return Exposure(
        request_id=response.request_id,
        user_id=request.user_id,
        at=service.context().now,
        model_version=release.version if answer.by_model else None,
        policy=service.policy() if answer.by_model else "fallback",
        strategy=answer.strategy,
        degraded=response.degraded,
        item_ids=[str(ids[place.row]) for place in places],
        scores=[place.score for place in places],
        propensities=propensities,
        slate_propensity=float(np.prod(known)) if answer.by_model else None,
        surface=request.surface or request.scenario,
        device=request.device,
        arm=asked.arm,
    )
