"""The paths that rank for a user: recommend and explain."""

from fastapi import APIRouter, Response

from serving.explaining import explain
from serving.recommending import recommend
from serving.routes.deps import ServiceDep
from serving.schemas.recommend import ExplainRequest, ExplainResponse, RecommendRequest, RecommendResponse

router = APIRouter(tags=["recommendations"])


@router.post("/v1/recommend", response_model=RecommendResponse)
async def post_recommend(body: RecommendRequest, service: ServiceDep) -> Response:
    """Rank items for a user or a history."""
    answer = await recommend(service, body)
    # The model is built by this server and needs no second validation on its way out.
    return Response(answer.model_dump_json(exclude_unset=True), media_type="application/json")


@router.post("/v1/explain")
async def post_explain(body: ExplainRequest, service: ServiceDep) -> ExplainResponse:
    """Say why an item is shown to somebody, or why not: its rank, its path, what outranks it, what bars it."""
    return await explain(service, body)
