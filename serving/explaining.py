"""The answer to "why, or why not, this item?": its rank, its path, what outranks it and what bars it."""

import numpy as np

from recsys.contracts import Recommender
from recsys.core.arrays import BoolArray
from recsys.data.ids import wire_id
from serving.answers import best_path
from serving.asking import Question
from serving.compose import best
from serving.lists import item_row
from serving.model import ModelRanker, ModelUnavailableError, model_of
from serving.plan import facets_met
from serving.problems import ProblemError
from serving.recommending import ask_for, seconds_left
from serving.release import LoadedBundle
from serving.schemas.recommend import ExplainRequest, ExplainResponse, Outranking, PathOut
from serving.service import Service

_OUTRANKING = 5


async def explain(service: Service, request: ExplainRequest) -> ExplainResponse:
    """Say where an item stands for a user among all that may be shown, and why it may not where it may not."""
    whole = await ask_for(service, request, n=1, reasons=True)
    asked = whole.question
    release = asked.release
    row = item_row(release, request.item_id)
    try:
        model = model_of(release)
        return await service.model.run(lambda: _explained(asked, model, row), seconds=seconds_left(whole.until))
    except ModelUnavailableError as error:
        raise ProblemError(
            503,
            f"the model must answer to explain, and does not ({error.refusal.value}); ask again later",
            retry_after=1,
        ) from error


def _explained(asked: Question, model: LoadedBundle, row: int) -> ExplainResponse:
    plan, items, facets = asked.plan, asked.release.items, asked.release.facets
    barred_by = [reason for reason, barred_N in plan.bars or () if barred_N[row]]
    open_N = plan.eligible_N.copy()
    open_N[row] = True
    ranker = _ranker(asked, model.ranker)
    ranked = best(plan, ranker, open_N, int(np.count_nonzero(open_N)))
    found = np.flatnonzero(ranked.items == row)
    rank = int(found[0]) if len(found) else None
    above = [] if rank is None else list(range(max(0, rank - _OUTRANKING), rank))
    return ExplainResponse(
        item_id=wire_id(items.item_ids[row]),
        model_version=asked.release.version,
        rank=None if rank is None else rank + 1,
        of=len(ranked.items),
        score=None if rank is None else float(ranked.scores[rank]),
        path=_path(asked, model, row) if not model.explains_search else _searched(asked, model, open_N, rank),
        barred_by=barred_by,
        outranked_by=[
            Outranking(
                item_id=wire_id(items.item_ids[int(ranked.items[place])]),
                title=items.titles[int(ranked.items[place])],
                score=float(ranked.scores[place]),
            )
            for place in above
        ],
        meets=facets_met(plan, facets, row),
    )


def _ranker(asked: Question, recommender: Recommender) -> ModelRanker:
    return ModelRanker(recommender=recommender, history=asked.history, whole_catalogue=asked.whole_catalogue)


def _searched(asked: Question, model: LoadedBundle, open_N: BoolArray, rank: int | None) -> PathOut | None:
    """Return the likeliest of the paths that reached an item in the search that ranked it, None where none did."""
    if rank is None:
        return None
    ranked = best(asked.plan, _ranker(asked, model.recommender), open_N, rank + 1)
    return best_path(asked.release.facets, ranked.paths[rank]) if len(ranked.paths) > rank else None


def _path(asked: Question, model: LoadedBundle, row: int) -> PathOut | None:
    """Return the likeliest path to one item, which is searched among it alone."""
    alone_N = np.zeros(len(asked.release.items), np.bool_)
    alone_N[row] = True
    ranker = ModelRanker(recommender=model.recommender, history=asked.history)
    (slate,) = ranker.rank([alone_N], 1)
    return best_path(asked.release.facets, slate.paths[0]) if slate.paths else None
