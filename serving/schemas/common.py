"""The shapes that several calls share: ids, times, filters, steering."""

import time
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    WithJsonSchema,
    model_validator,
)

from recsys.core.errors import IdError
from recsys.data.ids import MAX_LENGTH, id_text

MAX_TIMESTAMP = 253_402_300_799
"""The last second of the year 9999; larger numbers are milliseconds sent by mistake."""
AHEAD_SECONDS = 86_400
"""How far ahead of this server's clock a client's may be."""


def _id(value: object) -> str:
    """Return an id as text, by the rule of :mod:`recsys.data.ids`."""
    text = id_text(value)
    if text is None:
        raise IdError("an id must be given, got a word that stands for nothing; send the id")
    return text


def _without_nul(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must be text without NUL characters")
    return value


def not_ahead(value: int) -> int:
    """Refuse a time after tomorrow, which would be the latest event of its user for ever."""
    if value > time.time() + AHEAD_SECONDS:
        raise ValueError("must be unix seconds of now or before, not of a day in the future")
    return value


Text256 = Annotated[StrictStr, Field(min_length=1, max_length=256), AfterValidator(_without_nul)]
Id = Annotated[
    str,
    BeforeValidator(_id),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string", "minLength": 1, "maxLength": MAX_LENGTH}],
            "description": "an integer, or text; ids above 2^53 travel as text",
        }
    ),
]
Timestamp = Annotated[StrictInt, Field(ge=0, le=MAX_TIMESTAMP, description="unix seconds"), AfterValidator(not_ahead)]
FutureTime = Annotated[StrictInt, Field(ge=0, le=MAX_TIMESTAMP, description="unix seconds")]
Scalar = StrictBool | StrictInt | StrictFloat | Annotated[StrictStr, Field(max_length=256)]


class Strict(BaseModel):
    """A part of a request whose fields are all known."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Condition(Strict):
    """What one column of an item must be; an item without a value there fails all but ``not`` and ``not in``."""

    field: Annotated[StrictStr, Field(min_length=1, max_length=256)]
    op: Literal["=", "not", "in", "not in", "<", "<=", ">", ">="] = Field(
        default="=", description="a list column holds a value where it contains it"
    )
    value: Scalar | Annotated[list[Scalar], Field(max_length=1000)]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if isinstance(self.value, list) != (self.op in ("in", "not in")):
            raise ValueError("value must be a list for in and not in, and one value else")
        if self.op in ("<", "<=", ">", ">=") and (
            isinstance(self.value, bool) or not isinstance(self.value, int | float)
        ):
            raise ValueError("value must be a number for <, <=, > and >=")
        return self


class Filter(Strict):
    """What every shown item must fulfil, all of it."""

    category: Annotated[StrictStr, Field(min_length=1, max_length=256)] | None = None
    category_in: Annotated[list[Annotated[StrictStr, Field(max_length=256)]], Field(min_length=1, max_length=100)] | (
        None
    ) = None
    category_not: Annotated[list[Annotated[StrictStr, Field(max_length=256)]], Field(max_length=100)] = Field(
        default_factory=list
    )
    where: Annotated[list[Condition], Field(max_length=20)] = Field(default_factory=list)


CodePair = Annotated[list[Annotated[StrictInt, Field(ge=0, le=2**31)]], Field(min_length=2, max_length=2)]
Facet = Annotated[
    Annotated[StrictStr, Field(min_length=1, max_length=256)] | CodePair,
    Field(description="words that GET /v1/facets shows, or [codebook, code]"),
]
_Facets = Annotated[list[Facet], Field(max_length=20)]


class Steer(Strict):
    """Facets that shown items should have, must all have, or must not have."""

    prefer: _Facets = Field(default_factory=list)
    require: _Facets = Field(default_factory=list)
    avoid: _Facets = Field(default_factory=list)


Ranked = Literal["paths", "catalogue"]
JsonObject = dict[str, Any]
