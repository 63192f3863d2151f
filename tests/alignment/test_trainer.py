"""The GRPO trainer's advantages."""

import numpy as np
import pytest
import torch

from recsys.alignment.trainer import PathGRPOTrainer
from tests.support.alignment_world import CONFIG, run


def test_advantages_when_windows_are_demonstrated_then_sampled_paths_alone_are_the_baseline(
    world, tmp_path, monkeypatch
):
    kept, scored = [], PathGRPOTrainer._generate_and_score_completions

    def spied(self, inputs):
        outputs = scored(self, inputs)
        kept.append((outputs["advantages"].view(-1, 4), self.demonstrated_R.view(-1, 4)))
        return outputs

    monkeypatch.setattr(PathGRPOTrainer, "_generate_and_score_completions", spied)
    run(world, CONFIG.model_copy(update={"demonstrations": 2}), tmp_path)
    advantage_GR, shown_GR = (torch.cat(parts) for parts in zip(*kept, strict=True))
    assert shown_GR[:, :2].float().mean() > 0.5
    assert not shown_GR[:, 2:].any()
    np.testing.assert_allclose((advantage_GR * ~shown_GR).sum(1), 0.0, atol=1e-4)
    assert advantage_GR[shown_GR].mean() > 0.5  # what users went on to is better than what is sampled


@pytest.mark.parametrize("gradient", ["sum", "mean"])
def test_gradient_when_summed_then_is_that_of_whole_paths_and_when_meant_an_nth_of_it(
    world, tmp_path, monkeypatch, gradient
):
    checked, computed = [], PathGRPOTrainer.compute_loss

    def spied(self, model, inputs, *rest, **named):
        weights = model.backbone.generator.decoder.token_head.weight
        loss = computed(self, model, inputs, *rest, **named)
        found = torch.autograd.grad(loss, weights, retain_graph=True)[0]
        expected = torch.autograd.grad(_by_hand(self, model, inputs, gradient), weights)[0]
        assert found.abs().max() > 1e-4
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
        checked.append(inputs)
        return loss

    monkeypatch.setattr(PathGRPOTrainer, "compute_loss", spied)
    run(world, CONFIG.model_copy(update={"gradient": gradient, "beta": 0.5, "steps": 3}), tmp_path)
    assert len(checked) == 3


def _by_hand(trainer, policy, inputs, gradient):
    """Return the mean over paths of -A pi(path) / pi_old(path) + beta KL; "mean" divides by the number of choices."""
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    chosen_RT = ids[:, 1:, None]
    log_prob_RT = policy(ids).logits[:, :-1].log_softmax(-1).gather(2, chosen_RT).squeeze(2)
    held_RT = inputs["ref_per_token_logps"]
    learnt_RT = inputs["tool_mask"]
    log_path_R = (log_prob_RT * learnt_RT).sum(1)
    ratio_R = (log_path_R - log_path_R.detach()).exp()
    choices_R = learnt_RT.sum(1).clamp(min=1)
    gap_RT = held_RT - log_prob_RT
    # trl weighs the divergence by the ratio too (use_bias_correction_kl), there the geometric mean over the choices
    mean_ratio_R = ((log_path_R - log_path_R.detach()) / choices_R).exp()
    kl_R = mean_ratio_R * ((gap_RT.exp() - gap_RT - 1) * learnt_RT).sum(1)
    count_R = choices_R if gradient == "mean" else 1
    return ((-inputs["advantages"] * ratio_R * (learnt_RT.sum(1) > 0) + trainer.beta * kl_R) / count_R).mean()
