"""The report's table and plots of precision by layer."""

import json
from pathlib import Path

from pipelines.report.training_sections import training


def _run(folder: Path, precision: list[dict[str, object]]) -> Path:
    for name, value in (
        ("model/training.json", {"epochs": [{"item": 2.0}, {"item": 1.0}], "precision": precision}),
        ("calibrated/calibration.json", {"repeat_bias": 0.0}),
    ):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(json.dumps(value))
    return folder


def _decisions(small: dict[str, object], large: dict[str, object]) -> list[dict[str, object]]:
    """Three choices, the first all in fp32."""
    moved = {"loss": 2.0, "budget": 1e-3, "expected_rise": 2e-5, "measured_change": -1e-4}
    return [
        {"step": 200 * place, "bf16": bf16, "layers": [small, large], **moved}
        for place, bf16 in enumerate(([], ["large"], ["large"]))
    ]


def test_training_when_precision_was_chosen_then_layers_are_told_by_share_with_how_often_they_were_in_bf16(
    tmp_path: Path,
) -> None:
    small = {"layer": "small", "sensitivity": 1e-6, "seconds_fp32": 1.0, "seconds_bf16": 2.0, "share": 0.1}
    large = {"layer": "large", "sensitivity": 2e-5, "seconds_fp32": 3.0, "seconds_bf16": 2.0, "share": 0.5}
    part = training(_run(tmp_path, _decisions(small, large)))
    rows = part.precision
    assert [(row.layer, row.bf16, row.choices) for row in rows] == [("large", 2, 3), ("small", 0, 3)]
    assert (rows[0].sensitivity, rows[0].share, rows[0].faster) == (2e-5, 0.5, 1.5)
    bf16, moved = part.decisions
    assert all(word in bf16 for word in ("small", "large", "400", "layers in bf16"))
    # two layers and three choices: six squares, of which the large layer's last two are full
    assert bf16.count("var(--main)") == 2
    assert all(word in moved for word in ("budget", "measured", "expected"))


def test_training_when_precision_was_not_chosen_by_layer_then_there_is_no_table(tmp_path: Path) -> None:
    part = training(_run(tmp_path, []))
    assert not part.precision
    assert not part.decisions
