"""Saved settings of another version are refused in one line."""

from pathlib import Path

import pytest

from recsys.core.config import Config, read_config
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
