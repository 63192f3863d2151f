"""Saved settings of another version are refused in one line; settings that were added later can be neutral."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

from recsys.core.config import Config, Neutral, essential, read_config
from recsys.core.errors import ArtifactError


class _Small(Config):
    epochs: int = 3
    """How many."""


def test_read_config_when_saved_by_this_version_then_is_equal(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(_Small(epochs=5).model_dump_json())
    assert read_config(_Small, path) == _Small(epochs=5)


@pytest.mark.parametrize(("text", "said"), [('{"lessons": 1}', "lessons: Extra"), ("no json", "Invalid JSON")])
def test_read_config_when_it_does_not_fit_then_names_the_first_fault(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ArtifactError, match=rf"config\.json must hold .*{said}.*make it again"):
        read_config(_Small, path)


class _Before(Config):
    epochs: int = 3


class _After(Config):
    epochs: int = 3
    warmup: Annotated[int, Neutral(0)] = 0


class _NewDefault(Config):
    epochs: int = 3
    warmup: Annotated[int, Neutral(0)] = 5


class _Unmarked(Config):
    epochs: int = 3
    warmup: int = 0


def values(config: Config) -> dict[str, Any]:
    return essential(config, config.model_dump(mode="json"))


def test_essential_when_a_setting_is_added_at_its_neutral_value_then_equals_what_was_before() -> None:
    assert values(_After()) == values(_Before()) == {"epochs": 3}
    assert values(_After(warmup=1)) == {"epochs": 3, "warmup": 1}


def test_essential_when_the_default_is_no_longer_neutral_then_differs() -> None:
    assert values(_NewDefault()) == {"epochs": 3, "warmup": 5}
    assert values(_NewDefault(warmup=0)) == values(_Before())


def test_essential_when_an_added_setting_is_not_marked_then_differs() -> None:
    assert values(_Unmarked()) == {"epochs": 3, "warmup": 0}


class _Whole(Config):
    one: _Before = _Before()
    several: tuple[_After, ...] = (_After(), _After(warmup=2))
    named: Mapping[str, _After] = Field(default_factory=lambda: {"a": _After()})


class _Pruning(Config):
    share: Annotated[float, Neutral(1.0)] = 1.0
    teacher: Annotated[str | None, Neutral(None)] = None


class _WithSection(_Whole):
    pruning: _Pruning = _Pruning()
    empty: tuple[_After, ...] = ()


def test_essential_when_settings_lie_in_sections_lists_and_mappings_then_all_are_read() -> None:
    whole = {
        "one": {"epochs": 3},
        "several": [{"epochs": 3}, {"epochs": 3, "warmup": 2}],
        "named": {"a": {"epochs": 3}},
    }
    assert values(_Whole()) == whole


def test_essential_when_a_section_has_only_neutral_settings_then_is_left_out() -> None:
    assert values(_WithSection()) == {**values(_Whole()), "empty": []}
    assert values(_WithSection(pruning=_Pruning(share=0.5)))["pruning"] == {"share": 0.5}
