"""Alignment: prompts stay in the training log, rollout and training agree, rewards go up."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.alignment.align import align
from recsys.alignment.config import AlignmentConfig, RewardWeights
from recsys.alignment.policy import PathPolicy
from recsys.alignment.prompts import draw_prompts
from recsys.alignment.rollouts import choose_codebook, sample_paths
from recsys.codes.validity import ValidityIndex
from recsys.core.errors import DataError
from recsys.data.events import EventLog
from recsys.data.splits import training_log
from tests.support.tiny_generator import TinyGenerator

ITEMS, BOOKS, SIZE, CATEGORIES = 12, 3, 4, 3


def make_log(lengths, *, num_items=None):
    # Every event is an item of its own, so that an item tells which event it was.
    count = int(sum(lengths))
    return EventLog(
        offsets_U1=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items_E=np.arange(count),
        timestamps_E=np.arange(count),
        num_items=num_items or count,
    )


@pytest.fixture
def world():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    codes_NM = np.unique(np.random.default_rng(0).integers(0, SIZE, (40, BOOKS)), axis=0)[:ITEMS]
    generator = TinyGenerator(codes_NM, codebook_size=SIZE, num_categories=CATEGORIES)
    users = 30
    items_E = np.concatenate([(start + np.arange(8)) % ITEMS for start in np.arange(users) % ITEMS])
    log = EventLog(
        offsets_U1=np.arange(users + 1) * 8,
        items_E=items_E,
        timestamps_E=np.arange(users * 8),
        num_items=ITEMS,
    )
    return generator, log


def make_policy(generator, log):
    prompts = draw_prompts(log, count=10, window=2, rng=np.random.default_rng(0))
    validity = ValidityIndex(generator.codes_NM.numpy(), SIZE)
    return PathPolicy(generator, validity=validity, histories=prompts.histories)


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(0, 8), min_size=1, max_size=6).filter(lambda x: max(x) >= 4),
    seed=st.integers(0, 9),
)
def test_prompts_when_drawn_from_training_log_then_never_touch_held_out_items(lengths, seed):
    log = make_log(lengths)
    prompts = draw_prompts(training_log(log), count=20, window=3, rng=np.random.default_rng(seed))
    for history, targets_H in zip(prompts.histories, prompts.targets_PH, strict=True):
        user = np.searchsorted(log.offsets_U1, history.items[0], side="right") - 1
        start, stop = log.offsets_U1[user], log.offsets_U1[user + 1]
        allowed = np.arange(start, stop - 2 if stop - start >= 3 else stop)
        np.testing.assert_array_equal(history.items, allowed[: len(history.items)])
        following = allowed[len(history.items) :][:3]
        np.testing.assert_array_equal(targets_H, np.pad(following, (0, 3 - len(following)), constant_values=-1))
        assert len(following) > 0


def test_prompts_when_no_user_has_two_events_then_says_so():
    with pytest.raises(DataError, match="user with two events"):
        draw_prompts(make_log([1, 1]), count=1, window=3, rng=np.random.default_rng(0))


def test_choose_codebook_when_one_is_spent_and_one_forced_then_takes_surest_with_a_choice():
    # Codebook 0 is spent; 1 has one allowed code (forced); 2 and 3 have a choice. Codebook 3 is surer, but
    # its code 0 is barred: softmax(5, 0, 0) leaves .0066 to codes 1 and 2; codebook 2 gives .5 to 0 and 1.
    low = -50.0
    logits = torch.tensor([[[9, 0, 0.0], [9, 0, 0], [1, 1, low], [5, 0, 0]]])
    allowed = torch.tensor([[[1, 1, 1], [1, 0, 0], [1, 1, 0], [0, 1, 1]]], dtype=torch.bool)
    codes = torch.tensor([[0, -1, -1, -1]])
    assert choose_codebook(logits, allowed, codes).tolist() == [2]
    assert choose_codebook(logits, allowed, torch.tensor([[0, -1, 0, 0]])).tolist() == [1]


def test_sampled_paths_when_finished_then_are_items_of_the_catalogue(world):
    generator, log = world
    policy = make_policy(generator, log)
    paths = sample_paths(
        policy.backbone,
        torch.arange(10).repeat_interleave(8),
        temperature=1.0,
        rng=torch.Generator().manual_seed(1),
    )
    catalogue = {tuple(row) for row in generator.codes_NM.tolist()}
    assert {tuple(row) for row in paths.tokens_RM.tolist()} <= catalogue
    assert all(sorted(row) == list(range(BOOKS)) for row in paths.book_RS.tolist())
    np.testing.assert_allclose(paths.category_RSQ.sum(dim=2), 1.0, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_when_teacher_forced_then_equal_those_of_the_rollout(world, temperature):
    generator, log = world
    generator.train()  # dropout would show as a difference; the policy must switch it off
    policy = make_policy(generator, log)
    policy.train()
    prompt_R = torch.arange(10).repeat_interleave(4)
    paths = sample_paths(policy.backbone, prompt_R, temperature=temperature, rng=torch.Generator().manual_seed(2))
    ids = torch.cat([prompt_R[:, None], paths.token_ids(SIZE)], dim=1)
    log_probs = (policy(ids).logits[:, :-1] / temperature).log_softmax(dim=-1)
    forced = log_probs.gather(2, ids[:, 1:, None]).squeeze(2)
    np.testing.assert_allclose(forced[:, 1::2].detach(), paths.log_prob_RS, atol=1e-5)
    np.testing.assert_allclose(forced[:, 0::2].detach(), 0.0, atol=1e-6)  # codebook tokens are certain
    assert (paths.log_prob_RS < -0.1).any()


CONFIG = AlignmentConfig(
    steps=4, prompts_per_step=4, group_size=4, learning_rate=1e-2, top_n=1, window=2, probe_prompts=16
)


def run(world, config, seed=3):
    generator, log = world
    codewords = np.random.default_rng(0).normal(size=(BOOKS, SIZE, 5)).astype(np.float32)
    category_N = np.arange(ITEMS) % CATEGORIES
    return align(generator, log, config=config, seed=seed, codewords_MKD=codewords, category_N=category_N)


def test_align_when_run_twice_with_one_seed_then_gives_the_same_weights(world):
    generator, _ = world
    start = {name: value.clone() for name, value in generator.state_dict().items()}
    ambient = torch.random.get_rng_state()
    report = run(world, CONFIG)
    first = {name: value.clone() for name, value in generator.state_dict().items()}
    assert torch.equal(torch.random.get_rng_state(), ambient)
    assert not torch.equal(first["tokens.weight"], start["tokens.weight"])
    generator.load_state_dict(start)
    run(world, CONFIG)
    for name, value in generator.state_dict().items():
        torch.testing.assert_close(value, first[name], rtol=0, atol=0)
    assert set(report.rewards_before) == {"step", "category", "consistency", "path"}
    assert 0 <= report.group_hit_rate <= 1
    assert report.kl > 0  # the reference did not move with the policy
    assert report.rollouts_per_second > 0


def test_align_when_all_rewards_weigh_nothing_then_every_group_is_flat_and_nothing_is_learnt(world):
    generator, _ = world
    start = generator.tokens.weight.detach().clone()
    none = RewardWeights(step=0, category=0, consistency=0, path=0)
    report = run(world, CONFIG.model_copy(update={"weights": none}))
    assert report.flat_group_rate == 1.0
    torch.testing.assert_close(generator.tokens.weight, start)


def test_align_when_the_world_is_simple_then_raises_the_step_reward(world):
    config = CONFIG.model_copy(update={"steps": 60, "prompts_per_step": 8, "group_size": 8, "window": 1})
    report = run(world, config)
    assert report.rewards_after["step"] > report.rewards_before["step"] + 0.1


def test_choose_codebook_when_compared_with_the_decoders_then_takes_the_same() -> None:
    from recsys.alignment.rollouts import choose_codebook as ours
    from recsys.decoding.crss import choose_codebook as decoders

    rng = np.random.default_rng(3)
    logits = rng.normal(size=(200, 4, 6)).astype(np.float32)
    allowed = rng.random((200, 4, 6)) < 0.4
    allowed[..., 0] = True
    used = rng.random((200, 4)) < 0.4
    used[:, 0] = False
    codes = np.where(used, 0, -1)
    chosen = ours(torch.from_numpy(logits), torch.from_numpy(allowed), torch.from_numpy(codes))
    assert (chosen.numpy() == decoders(logits, allowed, used)[0]).all()
