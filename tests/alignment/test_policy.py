"""The policy: training sees the probabilities that sampling had, and gradients reach the item head."""

import numpy as np
import pytest
import torch

from recsys.alignment.rollouts import sample_paths
from tests.support.alignment_world import ITEMS, SIZE, make_policy


@pytest.mark.parametrize(("temperature", "guidance"), [(1.0, 0.8), (0.7, 0.8), (1.0, 0.0), (1.0, 1.0)])
def test_log_probs_when_teacher_forced_then_equal_those_of_the_rollout(world, temperature, guidance):
    generator, log = world
    generator.train()  # dropout would show as a difference; the policy must switch it off
    policy = make_policy(generator, log, guidance=guidance)
    policy.train()
    prompt_R = torch.arange(10).repeat_interleave(4)
    paths = sample_paths(policy.backbone, prompt_R, temperature=temperature, rng=torch.Generator().manual_seed(2))
    ids = torch.cat([prompt_R[:, None], paths.token_ids(SIZE)], dim=1)
    log_probs = (policy(ids).logits[:, :-1] / temperature).log_softmax(dim=-1)
    forced = log_probs.gather(2, ids[:, 1:, None]).squeeze(2)
    np.testing.assert_allclose(forced[:, 1::2].detach(), paths.log_prob_RO, atol=1e-5)
    np.testing.assert_allclose(forced[:, 0::2].detach(), 0.0, atol=1e-6)  # codebook tokens are certain
    assert (paths.log_prob_RO < -0.1).any()


def test_path_when_only_the_item_head_is_heard_then_its_probability_is_the_items(world):
    # With guidance 1 a step's conditionals multiply out to the item's share of the probability of what the user lacks.
    generator, log = world
    policy = make_policy(generator, log, guidance=1.0)
    prompt_R = torch.arange(10).repeat_interleave(4)
    paths = sample_paths(policy.backbone, prompt_R, temperature=1.0, rng=torch.Generator().manual_seed(2))
    items = {tuple(codes): item for item, codes in enumerate(generator.codes_NM.tolist())}
    for prompt, codes, log_prob in zip(prompt_R.tolist(), paths.tokens_RM.tolist(), paths.log_prob_RO, strict=True):
        history = policy.backbone.prompts.histories[prompt]
        prob_N = generator.item_log_probs(generator.encode([history]), [history.items])[0].detach().exp()
        prob_N[history.items] = 0
        wanted = prob_N[items[tuple(codes)]] / prob_N.sum()
        assert float(log_prob.sum().exp()) == pytest.approx(wanted.item(), rel=1e-3)


def test_gradient_when_the_item_head_is_heard_then_reaches_item_vectors(world):
    generator, log = world
    for guidance, reached in ((0.8, True), (0.0, False)):
        generator.zero_grad()
        policy = make_policy(generator, log, guidance=guidance)
        prompt_R = torch.zeros(8, dtype=torch.long)
        paths = sample_paths(policy.backbone, prompt_R, temperature=1.0, rng=torch.Generator().manual_seed(2))
        logits = policy.backbone.along(prompt_R, paths.book_RO, paths.code_RO)
        logits.log_softmax(-1).gather(2, paths.code_RO[..., None]).sum().backward()
        read = set(policy.backbone.prompts.histories[0].items.tolist())
        others = [item for item in range(ITEMS) if item not in read]  # never encoded, only ever candidates
        assert others
        assert bool(generator.items.id_embedding.weight.grad[others].abs().sum() > 0) is reached
