"""Rollouts: demonstrations, and the figures of rollouts."""

import numpy as np
import pytest
import torch

from recsys.alignment.config import AlignmentConfig
from tests.support.alignment_world import SIZE, make_collector, make_policy


def test_demonstrations_when_asked_for_then_walk_to_the_windows_items_and_the_rest_is_sampled(world):
    generator, log = world
    policy = make_policy(generator, log)
    prompts = policy.backbone.prompts
    config = AlignmentConfig(group_size=4, demonstrations=2, window=2)
    collector = make_collector(policy, prompts, config)
    rollouts = collector.collect(collector.groups(torch.arange(10)), "try")
    items = {tuple(codes): item for item, codes in enumerate(generator.codes_NM.tolist())}
    reached_GR = np.reshape([items[tuple(codes)] for codes in rollouts.paths.tokens_RM.tolist()], (10, 4))
    shown = 0
    for prompt, (history, window) in enumerate(zip(prompts.histories, prompts.targets_BH, strict=True)):
        for place, item in enumerate(window):
            if item >= 0 and item not in history.items:
                assert reached_GR[prompt, place] == item
                shown += 1
        assert not set(reached_GR[prompt]) & set(history.items)
    assert rollouts.figures["demonstrations"] == pytest.approx(shown / 40)
    assert shown > 12
    ids = torch.cat([rollouts.prompt_R[:, None], rollouts.paths.token_ids(SIZE)], dim=1)
    forced = policy(ids).logits[:, :-1].log_softmax(dim=-1).gather(2, ids[:, 1:, None]).squeeze(2)
    np.testing.assert_allclose(forced[:, 1::2].detach(), rollouts.paths.log_prob_RO, atol=1e-5)
    plain = collector.collect(collector.groups(torch.arange(10)), "try", demonstrate=False)
    assert plain.figures["demonstrations"] == 0
    assert plain.figures["group_hits"] >= rollouts.figures["group_hits"]  # a demonstration is not a find
