"""Settings that would end a training in its middle are refused before it begins."""

from typing import Any

import pytest
from pydantic import ValidationError

from recsys.model.tokens.config import DistillationConfig, TokenFitConfig, TokenModelConfig


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (TokenModelConfig, {"width": 10, "heads": 4}),
        (TokenFitConfig, {"epochs": 0}),
        (TokenFitConfig, {"validate_every": 0}),
        (TokenFitConfig, {"patience": -1}),
        (TokenFitConfig, {"gradient_clip": -1.0}),
        (DistillationConfig, {"validate_every": 0}),
        (DistillationConfig, {"patience": -1}),
        (DistillationConfig, {"batch_positions": 0}),
    ],
)
def test_settings_when_no_training_can_have_them_then_they_are_refused(
    kind: type[TokenModelConfig | TokenFitConfig | DistillationConfig], settings: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError, match="|".join(settings)):
        kind(**settings)


def test_settings_when_heads_share_the_width_then_they_are_taken() -> None:
    assert TokenModelConfig(width=12, heads=4).width == 12
