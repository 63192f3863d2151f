"""The base of every configuration class: frozen, strict, documented field by field; and how a saved one is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.core.errors import ArtifactError


class Config(BaseModel):
    """A frozen set of named settings that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True)
class Neutral:
    """Marks a setting that was added later: with this value all is computed as before there was such a setting.

    >>> from typing import Annotated
    >>> class Training(Config):
    ...     epochs: int = 10
    ...     warmup: Annotated[int, Neutral(0)] = 0
    >>> essential(Training(), Training().model_dump()), essential(Training(warmup=5), Training(warmup=5).model_dump())
    ({'epochs': 10}, {'epochs': 10, 'warmup': 5})

    The mark is a value of its own and not the default: when the default changes, what is computed by default changes.
    """

    value: bool | int | float | str | tuple[Any, ...] | None


def essential(config: BaseModel, dumped: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration's dumped values without neutral settings, and without sections that hold no others."""
    fields = type(config).model_fields
    kept = {}
    for name, below in dumped.items():
        value = getattr(config, name)
        if any(isinstance(mark, Neutral) and mark.value == value for mark in fields[name].metadata):
            continue
        found = _essential(value, below)
        if found or not (below and isinstance(value, BaseModel)):
            kept[name] = found
    return kept


def _essential(value: Any, dumped: Any) -> Any:
    """Return the dumped form of a value, or of values in a list or a mapping, without neutral settings."""
    if isinstance(value, BaseModel):
        return essential(value, dumped)
    if isinstance(value, list | tuple):
        return [_essential(one, below) for one, below in zip(value, dumped, strict=True)]
    if isinstance(value, dict):
        return {key: _essential(one, dumped[key]) for key, one in value.items()}
    return dumped


def require_heads_fit(width: int, heads: int) -> None:
    """Refuse a width that attention heads cannot share out evenly.

    Raises:
        ValueError: it is no multiple of the heads; a settings' validator turns this into its own error.
    """
    if width % heads:
        raise ValueError(f"width must be a multiple of heads, got width {width} and {heads} heads; change one of them")


_Settings = TypeVar("_Settings", bound=Config)


def read_config(kind: type[_Settings], path: Path) -> _Settings:
    """Read settings that were saved as JSON beside an artifact.

    Raises:
        ArtifactError: the file holds other settings than this version has.
    """
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        raise ArtifactError(
            f"{path} must hold the settings of this version of recsys, got {error.error_count()} that do not fit, "
            f"first {'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}; make it again"
        ) from error
