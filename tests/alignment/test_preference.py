"""Alignment by preferences."""

import shutil

import torch

from tests.support.alignment_world import CONFIG, run


def test_align_when_it_prefers_pairs_then_raises_the_step_reward_and_goes_on_after_a_kill(world, tmp_path):
    generator, _ = world
    start = {name: value.clone() for name, value in generator.state_dict().items()}
    update = {"method": "dpo", "steps": 40, "prompts_per_step": 8, "group_size": 8, "window": 1, "save_every": 10}
    config = CONFIG.model_copy(update=update)
    report = run(world, config, tmp_path)
    assert report.method == "dpo"
    assert report.rewards_after["step"] > report.rewards_before["step"] + 0.05
    assert report.kl > 0
    wanted = {name: value.clone() for name, value in generator.state_dict().items()}
    shutil.rmtree(tmp_path / "checkpoint-40")  # as if it had been killed after step 30
    generator.load_state_dict(start)
    run(world, config, tmp_path)
    for name, value in generator.state_dict().items():
        torch.testing.assert_close(value, wanted[name], rtol=0, atol=0)
