"""The base of every configuration class: frozen, strict, documented field by field; and how a saved one is read."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.core.errors import ArtifactError


class Config(BaseModel):
    """A frozen set of named settings that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


_Settings = TypeVar("_Settings", bound=Config)


def read_config(kind: type[_Settings], path: Path) -> _Settings:
    """Read settings that were saved as JSON beside an artifact.

    Raises:
        ArtifactError: the file holds other settings than this version knows.
    """
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        raise ArtifactError(
            f"{path} must hold the settings of this version of recsys, got {error.error_count()} that do not fit, "
            f"first {'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}; make it again"
        ) from error
