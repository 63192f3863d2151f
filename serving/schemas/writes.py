"""The shapes of what is written: events, items, rules; and of what is loaded."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, model_validator

from serving.schemas.common import Filter, FutureTime, Id, JsonObject, Strict, Text256, Timestamp


class EventIn(BaseModel):
    """One event of one user; a negative weight says that the user disliked the item."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    event_id: Id
    user_id: Id
    item_id: Id
    event_type: Text256
    timestamp: Timestamp
    request_id: Id | None = None
    weight: Annotated[StrictFloat | StrictInt, Field(ge=-1e6, le=1e6)] | None = Field(
        default=None, description="1 where left out, -1 for dislikes, 0 for impressions; negative: disliked"
    )


class Rejection(BaseModel):
    """Why the row at ``index`` was not kept."""

    index: int
    reason: str


class EventsResponse(BaseModel):
    """What became of the rows; ``rejected`` says it in words of the first hundred, ``rejected_rows`` lists all."""

    accepted: int
    duplicates: int
    rejected: list[Rejection]
    rejected_rows: list[int]
    unknown_items: int = Field(description="accepted events on items that the catalogue does not have (yet)")


class ItemIn(BaseModel):
    """An item to add or change; any other field is kept as a column that filters can use."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    item_id: Id
    title: Annotated[str, Field(max_length=10_000)] | None = None
    brand: Annotated[str, Field(max_length=1000)] | None = None
    categories: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=20)] | None = None
    text: Annotated[str, Field(max_length=100_000)] | None = None
    available: StrictBool = True
    starts_at: FutureTime | None = Field(default=None, description="shown from here on")
    ends_at: FutureTime | None = Field(default=None, description="not shown from here on")


class FoundItem(BaseModel):
    """One item of the catalogue."""

    item_id: int | str
    title: str
    categories: list[str]


class EncodedItem(BaseModel):
    """What the frozen tokenizer made of an item."""

    item_id: int | str
    codes: list[int] = Field(description="one a codebook")
    facets: list[str] = Field(description="the words of the codes")
    nearest: list[FoundItem] = Field(description="items of training that share most of its codes")


class ItemsPutResponse(BaseModel):
    """What became of the items; ``version`` rises with every change."""

    accepted: int
    version: int
    new: int
    rejected: list[Rejection]
    encoded: list[EncodedItem] = Field(description="the first hundred of the new items")
    pending: int = Field(description="new items that are stored, and shown as soon as what encodes them is loaded")


class ItemsResponse(BaseModel):
    """Items found, most popular first."""

    items: list[FoundItem]


class ItemOut(FoundItem):
    """One item as it is served."""

    available: bool
    in_training: bool = Field(description="whether the model was trained on it; others are placed by their content")
    codes: list[int] = Field(description="one a codebook; none while no model is loaded")
    facets: list[str]
    nearest: list[FoundItem] = Field(description="for an item that was not trained on: those that share most codes")
    attributes: JsonObject


class Rule(Strict):
    """A rule over slates; items by id or by condition, or both, where it applies to items that meet either."""

    kind: Literal["pin", "boost", "bury", "exclude", "cap"]
    items: Annotated[list[Id], Field(max_length=1000)] = Field(default_factory=list)
    where: Filter | None = None
    position: Annotated[StrictInt, Field(ge=1, le=200)] = Field(default=1, description="pin: the place, from 1")
    factor: Annotated[StrictFloat | StrictInt, Field(gt=0, le=1e6)] = Field(
        default=2.0, description="boost, bury: multiplies, or divides, an item's probability"
    )
    share: Annotated[StrictFloat | StrictInt, Field(ge=0, le=1)] = Field(
        default=1.0, description="cap: largest share of a slate"
    )
    by: Text256 | None = Field(default=None, description="cap: a column; the cap is for each of its values")
    surfaces: Annotated[list[Text256], Field(max_length=100)] | None = None
    starts_at: FutureTime | None = None
    ends_at: FutureTime | None = None
    enabled: StrictBool = True

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kind == "cap":
            if (self.by is None) == (not self.items and self.where is None):
                raise ValueError(
                    "a cap must be for the values of a column (by), or for items or where, and not for both"
                )
        elif not self.items and self.where is None:
            raise ValueError("a rule must say which items it is for: items, or where")
        if self.kind == "pin" and len(self.items) != 1:
            raise ValueError("a pin must name one item in items")
        return self


class RuleOut(BaseModel):
    """A rule as it is kept."""

    name: str
    version: int
    updated_at: int
    rule: Rule


class RulesResponse(BaseModel):
    """All rules, by name."""

    rules: list[RuleOut]


class ForgetResponse(BaseModel):
    """What was deleted of a user."""

    events: int
    exposures: int


class ModelStatus(BaseModel):
    """A model version and how it fares: loading, ready, failed, or on disk."""

    version: str
    state: str
    reason: str
    current: bool = True


class ModelsResponse(BaseModel):
    """What is loaded, and what could be."""

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
