"""Weights come back from their files as they were, and damaged ones are refused before compiled code reads them."""

from pathlib import Path

import numpy as np
import pytest

from recsys.contracts import empty_history
from recsys.core.errors import ArtifactError
from recsys.runtime.export import export_generator
from recsys.runtime.scorer import RuntimeScorer
from recsys.runtime.weights import FORMAT, load_weights, require_inside, save_weights
from tests.runtime.worlds import history_of, random_generator


@pytest.mark.parametrize("share", [0.0, 0.4])
@pytest.mark.parametrize("prior", [True, False])
def test_weights_when_saved_and_loaded_then_score_as_before(tmp_path: Path, share: float, prior: bool) -> None:
    weights = export_generator(random_generator(share=share, prior=prior))
    save_weights(weights, tmp_path / "runtime")
    scorers = [RuntimeScorer(weights), RuntimeScorer(load_weights(tmp_path / "runtime"))]
    for history in (empty_history(), history_of([1, 2, 2], [3, 4, 5])):
        before, after = (scorer.score_items(scorer.encode([history])) for scorer in scorers)
        np.testing.assert_allclose(before, after, atol=2e-6)  # arrays lie elsewhere: sums are rounded anew


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [("items_X", 2, 1 << 30), ("items_X", 0, -1), ("starts_JN1", (0, 3), 1 << 40), ("starts_JN1", (1, 0), -5)],
)
def test_require_inside_when_the_prior_points_outside_then_it_is_refused(
    name: str, place: int | tuple[int, int], value: int
) -> None:
    weights = export_generator(random_generator())
    require_inside(weights)
    getattr(weights.prior, name)[place] = value
    with pytest.raises(ArtifactError, match="20 items"):
        require_inside(weights)


def test_load_weights_when_a_file_is_not_as_it_was_written_then_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "runtime"
    save_weights(export_generator(random_generator()), folder)
    config = (folder / "config.json").read_text()
    for text, message in (
        (config.replace(f'"format": {FORMAT}', '"format": 99'), f"format {FORMAT}, got 99"),
        (config.replace('"members": 0', '"members": 1'), "members.0.item_ND"),
        ("[]", "make the bundle again"),
    ):
        (folder / "config.json").write_text(text)
        with pytest.raises(ArtifactError, match=message):
            load_weights(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ArtifactError, match="must exist"):
        load_weights(folder)
