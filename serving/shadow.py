"""The shadow: a second release that gets the same queries as the first, out of band, and is never shown.

How much of a slate both have in common is a metric, and a line of the log where answers are logged. Requests never
wait for it: what does not fit into its queue is dropped and counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.core.telemetry import LOG, log_fields
from serving.asking import RequestContext, question
from serving.compose import compose
from serving.histories import KnownUser
from serving.metrics import Metrics
from serving.model import ModelRanker, model_of
from serving.pool import Pool, PoolFullError
from serving.releases import Releases
from serving.schemas.recommend import RecommendRequest
from serving.settings import ServingConfig
from serving.split import position

_WAITING = 64
COMPARED, DROPPED, FAILED = "compared", "dropped", "failed"


@dataclass(frozen=True, kw_only=True)
class _Comparison:
    """A request as the client sent it, the history and rules of its answer, its id, and the ids that it showed."""

    request: RecommendRequest
    known: KnownUser | None
    context: RequestContext
    request_id: str
    shown: Sequence[int | str]


class Shadow:
    """Runs the shadow release on a thread of its own.

    Args:
        releases: whose ``shadow`` is run; nothing is done while there is none.
        metrics: where overlaps and losses are counted.
        config: which share of requests is repeated, and whether comparisons are logged.
    """

    def __init__(self, releases: Releases, metrics: Metrics, config: ServingConfig) -> None:
        self._releases, self._metrics, self._config = releases, metrics, config
        self._pool = Pool("recsys-shadow", size=1, waiting=_WAITING)

    def compare(
        self,
        request: RecommendRequest,
        known: KnownUser | None,
        context: RequestContext,
        *,
        request_id: str,
        shown: Sequence[int | str],
    ) -> None:
        """Queue a request and the ids that answered it; never waits.

        Args:
            request: as the client sent it.
            known: the history that the answer was made from.
            context: the rules and the moment of the answer.
            request_id: decides whether this request is among the share.
            shown: ids of the answer, best first.
        """
        version = self._config.shadow_version
        if version is None or not shown or position(request_id, version) >= self._config.shadow_share:
            return

        one = _Comparison(request=request, known=known, context=context, request_id=request_id, shown=shown)
        try:
            self._pool.submit(lambda: self._try(one))
        except PoolFullError:
            self._metrics.shadowed(DROPPED)

    def waiting(self) -> int:
        """Return how many requests wait for the shadow."""
        return self._pool.waiting()

    def close(self) -> None:
        """Take no more requests and drop the waiting ones."""
        self._pool.close()

    def _try(self, one: _Comparison) -> None:
        try:
            self._compare(one)
        except Exception as error:
            # Whatever a release under trial raises is its own failure and nobody's answer.
            self._metrics.shadowed(FAILED)
            LOG.error("the shadow release failed on a request", exc_info=error)

    def _compare(self, one: _Comparison) -> None:
        release = self._releases.shadow
        if release is None:
            return
        asked = question(release, one.request, one.known, one.context, n=len(one.shown))
        ranker = ModelRanker(recommender=model_of(release).ranker, history=asked.history)
        composed = compose(asked.plan, ranker, np.random.default_rng(0))  # nothing is sampled: only the plan explores
        theirs = [release.items.item_ids[place.row] for place in composed.places]
        overlap = len(set(theirs) & set(one.shown)) / len(one.shown)
        self._metrics.shadowed(COMPARED, overlap)
        if ranker.illegal:
            self._metrics.shadowed(FAILED)
        if self._config.log_requests:
            log_fields(request_id=one.request_id, shadow=release.version, overlap=round(overlap, 4))
