"""The base of every configuration class: frozen, strict, documented field by field."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen set of named settings that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
