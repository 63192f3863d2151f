"""The shapes of recommendations, lists, facets and explanations."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, model_validator

from serving.schemas.common import Filter, Id, Ranked, Steer, Strict, Text256, Timestamp

MAX_N = 200


class HistoryEvent(BaseModel):
    """One thing the user did; events are oldest first."""

    model_config = ConfigDict(extra="ignore")

    item_id: Id
    timestamp: Timestamp | None = None


class RankingRequest(Strict):
    """For whom items are ranked: a known user, or a history given here; with both, the user's items are not shown."""

    user_id: Id | None = None
    history: Annotated[list[HistoryEvent], Field(max_length=10_000)] | None = None
    exclude: Annotated[list[Id], Field(max_length=10_000)] = Field(default_factory=list)
    filter: Filter | None = None
    steer: Steer | None = None
    rules: Annotated[list[Text256], Field(max_length=100)] | None = Field(
        default=None, description="names of the rules to apply; all that are in force where left out"
    )
    surface: Text256 | None = Field(default=None, description="where the slate is shown; rules may be for some only")
    device: Text256 | None = Field(default=None, description="what it is shown on; logged with the slate")
    timeout_ms: Annotated[StrictInt, Field(ge=1, le=60_000)] | None = Field(
        default=None, description="from the request's arrival; what is not ranked by then is the fallback's"
    )
    ranked: Ranked | None = Field(
        default=None,
        description="which items are ranked: those that token paths reach, or all that may be shown; a run without "
        "token experts ranks all; as the server is set where left out",
    )

    @model_validator(mode="after")
    def _someone(self) -> Self:
        if self.user_id is None and self.history is None:
            raise ValueError("user_id or history must be given (an empty history is a user nobody has seen)")
        return self


class RecommendRequest(RankingRequest):
    """A request for a slate."""

    n: Annotated[StrictInt, Field(ge=1, le=MAX_N)] = 10
    scenario: Text256 | None = Field(default=None, description="the former name of surface")
    explain: StrictBool = False


class PathStep(BaseModel):
    """One reasoning step in words."""

    codebook: int
    code: int
    facet: str
    confidence: float


class PathOut(BaseModel):
    """A reasoning path; ``reason`` says why a pruned one was cut."""

    steps: list[PathStep]
    words: str
    pruned: bool
    reason: str = ""


class RankedItem(BaseModel):
    """One recommended item; ``propensity`` and ``meets`` are there where slots were sampled or facets asked for."""

    item_id: int | str
    title: str
    score: float
    path: PathOut | None = None
    propensity: float | None = None
    meets: list[str] | None = None
    pinned_by: str | None = None


class RecommendResponse(BaseModel):
    """Ranked items; ``degraded`` says why the model did not answer, null when it did."""

    request_id: str
    model_version: str = Field(description="`fallback` where no model ranked")
    strategy: str
    degraded: str | None
    items: list[RankedItem]
    pruned: list[PathOut] | None = None
    rules: list[str] | None = Field(default=None, description="the rules that were applied, as name@version")
    unknown_items: list[int | str] | None = Field(
        default=None, description="ids of the history that the catalogue does not have, at most 20"
    )


class ListedItem(BaseModel):
    """One item of a list."""

    item_id: int | str
    title: str
    categories: list[str]
    score: float | None = None


class ListResponse(BaseModel):
    """A list of items, first things first."""

    items: list[ListedItem]
    degraded: str | None = None


class FacetOut(BaseModel):
    """A facet and how many items have it."""

    codebook: int
    code: int
    words: str
    items: int


class FacetsResponse(BaseModel):
    """Facets, those of most items first."""

    facets: list[FacetOut]


class ExplainRequest(RankingRequest):
    """Why is, or is not, this item shown to this user?"""

    item_id: Id


class Outranking(BaseModel):
    """An item that ranks above the one asked about."""

    item_id: int | str
    title: str
    score: float


class ExplainResponse(BaseModel):
    """Where an item stands for a user, and why; ``barred_by`` is empty where it may be shown."""

    item_id: int | str
    model_version: str
    rank: int | None = Field(description="1 is best; among the items that may be shown, and this one")
    of: int
    score: float | None
    path: PathOut | None = Field(description="null where a run with token experts searched and no path reached it")
    barred_by: list[str]
    outranked_by: list[Outranking]
    meets: list[str]
