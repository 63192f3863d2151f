"""The GRPO trainer's advantages."""

import numpy as np
import torch

from recsys.alignment.trainer import PathGRPOTrainer
from tests.support.alignment_world import CONFIG, run


def test_advantages_when_windows_are_demonstrated_then_sampled_paths_alone_are_the_baseline(
    world, tmp_path, monkeypatch
):
    kept, scored = [], PathGRPOTrainer._generate_and_score_completions

    def spied(self, inputs):
        outputs = scored(self, inputs)
        kept.append((outputs["advantages"].view(-1, 4), self.shown_R.view(-1, 4)))
        return outputs

    monkeypatch.setattr(PathGRPOTrainer, "_generate_and_score_completions", spied)
    run(world, CONFIG.model_copy(update={"demonstrations": 2}), tmp_path)
    advantage_GR, shown_GR = (torch.cat(parts) for parts in zip(*kept, strict=True))
    assert shown_GR[:, :2].float().mean() > 0.5
    assert not shown_GR[:, 2:].any()
    np.testing.assert_allclose((advantage_GR * ~shown_GR).sum(1), 0.0, atol=1e-4)
    assert advantage_GR[shown_GR].mean() > 0.5  # what users went on to is better than what is sampled
