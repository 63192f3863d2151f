"""Owns the shapes of requests and responses; fields are only ever added."""

from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    WithJsonSchema,
    model_validator,
)

MAX_TIMESTAMP = 253_402_300_799
"""The last second of the year 9999; larger numbers are milliseconds sent by mistake."""


def _without_nul(value: int | str) -> int | str:
    if isinstance(value, str) and "\x00" in value:
        raise ValueError("must be text without NUL characters")
    return value


_Int64 = Annotated[StrictInt, Field(ge=-(2**63), le=2**63 - 1)]
_Text = Annotated[StrictStr, Field(min_length=1, max_length=256)]
Id = Annotated[_Int64 | _Text, AfterValidator(_without_nul)]
Timestamp = Annotated[StrictInt, Field(ge=0, le=MAX_TIMESTAMP, description="unix seconds")]


class HistoryEvent(BaseModel):
    """One thing the user did; events are oldest first."""

    model_config = ConfigDict(extra="ignore")

    item_id: Id
    timestamp: Timestamp | None = None


class Filter(BaseModel):
    """What every answer must fulfil."""

    model_config = ConfigDict(extra="forbid")

    category: Annotated[StrictStr, Field(min_length=1, max_length=256)]


class RecommendRequest(BaseModel):
    """Who asks (a known user, or a history given here) and for what."""

    model_config = ConfigDict(extra="forbid")

    user_id: Id | None = None
    history: Annotated[list[HistoryEvent], Field(max_length=10_000)] | None = None
    n: Annotated[StrictInt, Field(ge=1, le=200)] = 10
    exclude: Annotated[list[Id], Field(max_length=10_000)] = Field(default_factory=list)
    filter: Filter | None = None
    scenario: Annotated[StrictStr, Field(max_length=100)] | None = None
    explain: StrictBool = False

    @model_validator(mode="after")
    def _someone(self) -> Self:
        if self.user_id is None and self.history is None:
            raise ValueError("user_id or history must be given (an empty history is a user nobody has seen)")
        return self


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
    """One recommended item."""

    item_id: int | str
    title: str
    score: float
    path: PathOut | None = None


class RecommendResponse(BaseModel):
    """Ranked items; ``degraded`` says why the model did not answer, null when it did."""

    request_id: str
    model_version: str
    strategy: str
    degraded: str | None
    items: list[RankedItem]
    pruned: list[PathOut] | None = None


class EventIn(BaseModel):
    """One event of one user."""

    model_config = ConfigDict(extra="ignore")

    event_id: Id
    user_id: Id
    item_id: Id
    event_type: Annotated[_Text, AfterValidator(_without_nul)]
    timestamp: Timestamp
    request_id: Id | None = None


EventRows = Annotated[list[Any], WithJsonSchema({"type": "array", "items": EventIn.model_json_schema()})]
"""Rows are checked one by one, so that a bad one does not take the others down."""


class Rejection(BaseModel):
    """Why the row at ``index`` was not kept."""

    index: int
    reason: str


class EventsResponse(BaseModel):
    """What became of the rows."""

    accepted: int
    duplicates: int
    rejected: list[Rejection]


class ItemOut(BaseModel):
    """One item of the catalogue."""

    item_id: int | str
    title: str
    categories: list[str]


class ItemsResponse(BaseModel):
    """Items found, most popular first."""

    items: list[ItemOut]


class ModelStatus(BaseModel):
    """A model version and how it fares: loading, ready or failed."""

    version: str
    state: str
    reason: str
    current: bool = True


class ModelsResponse(BaseModel):
    """What is loaded."""

    models: list[ModelStatus]


class ModelMetadata(BaseModel):
    """Open Inference Protocol model metadata."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    state: str


class Health(BaseModel):
    """Open Inference Protocol health."""

    live: bool | None = None
    ready: bool | None = None
    degraded: str | None = None
    state: str | None = None
    reason: str | None = None
