"""Alignment: rewards go up, one seed gives one result, and a killed run goes on."""

import pytest
import torch

from recsys.alignment.collector import RolloutCollector
from recsys.alignment.config import RewardWeights
from tests.support.alignment_world import CONFIG, run


def test_align_when_run_twice_with_one_seed_then_gives_the_same_weights(world, tmp_path):
    generator, _ = world
    start = {name: value.clone() for name, value in generator.state_dict().items()}
    ambient = torch.random.get_rng_state()
    report = run(world, CONFIG, tmp_path / "first")
    first = {name: value.clone() for name, value in generator.state_dict().items()}
    assert torch.equal(torch.random.get_rng_state(), ambient)
    assert not torch.equal(first["decoder.token_head.weight"], start["decoder.token_head.weight"])
    generator.load_state_dict(start)
    run(world, CONFIG, tmp_path / "second")
    for name, value in generator.state_dict().items():
        torch.testing.assert_close(value, first[name], rtol=0, atol=0)
    assert set(report.rewards_before) == {"step", "category", "consistency", "path"}
    assert 0 <= report.group_hit_rate <= 1
    assert report.kl > 0  # the reference did not move with the policy
    assert report.rollouts_per_second > 0


def test_align_when_all_rewards_weigh_nothing_then_every_group_is_flat_and_nothing_is_learnt(world, tmp_path):
    generator, _ = world
    start = generator.decoder.token_head.weight.detach().clone()
    none = RewardWeights(step=0, category=0, consistency=0, path=0)
    report = run(world, CONFIG.model_copy(update={"weights": none}), tmp_path)
    assert report.flat_group_rate == 1.0
    torch.testing.assert_close(generator.decoder.token_head.weight, start)


def test_align_when_the_world_is_simple_then_raises_the_step_reward(world, tmp_path):
    config = CONFIG.model_copy(update={"steps": 60, "prompts_per_step": 8, "group_size": 8, "window": 1})
    report = run(world, config, tmp_path)
    assert report.rewards_after["step"] > report.rewards_before["step"] + 0.1


def test_align_when_windows_are_demonstrated_then_few_groups_teach_nothing(world, tmp_path):
    generator, _ = world
    start = {name: value.clone() for name, value in generator.state_dict().items()}
    update = {"prompts_per_step": 8, "group_size": 2, "window": 1, "top_n": 1}
    update |= {"weights": RewardWeights(step=0, category=0, consistency=0)}  # only a hit counts

    def report_of(**more):
        generator.load_state_dict(start)
        return run(world, CONFIG.model_copy(update=update | more), tmp_path / str(more))

    still = {"steps": 12, "learning_rate": 1e-9}  # nothing is learned: the untrained policy is compared
    without, shown = (report_of(demonstrations=count, **still).flat_group_rate for count in (0, 1))
    # two sampled paths of twelve items seldom differ in hitting; one that is shown hits, and one that is sampled seldom
    assert shown < 0.5 < without
    report = report_of(demonstrations=1, steps=20)
    assert report.rewards_after["path"] > report.rewards_before["path"] + 0.1


def test_align_when_killed_and_started_again_then_ends_as_if_it_had_not_been(world, tmp_path, monkeypatch):
    generator, _ = world
    start = {name: value.clone() for name, value in generator.state_dict().items()}
    config = CONFIG.model_copy(update={"steps": 6, "save_every": 2})
    whole = run(world, config, tmp_path / "whole")
    wanted = {name: value.clone() for name, value in generator.state_dict().items()}
    generator.load_state_dict(start)
    rollouts = RolloutCollector.collect

    def dies(self, prompt_R, draw, **how):
        if draw == 3:
            raise KeyboardInterrupt
        return rollouts(self, prompt_R, draw, **how)

    with monkeypatch.context() as patch:
        patch.setattr(RolloutCollector, "collect", dies)
        with pytest.raises(KeyboardInterrupt):
            run(world, config, tmp_path / "killed")
    torn = tmp_path / "killed" / "checkpoint-4"  # a kill in the middle of writing leaves a folder without its state
    torn.mkdir()
    generator.load_state_dict(start)
    report = run(world, config, tmp_path / "killed")
    for name, value in generator.state_dict().items():
        torch.testing.assert_close(value, wanted[name], rtol=0, atol=0)
    assert [step["step"] for step in report.steps] == [1, 2, 3, 4, 5, 6]
    assert report.group_hit_rate == whole.group_hit_rate
