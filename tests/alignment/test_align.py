"""Alignment: prompts stay in the training log, rollout and training agree, rewards go up."""

import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TrainerState

from recsys.alignment.align import align, build_rubric
from recsys.alignment.collector import RolloutCollector
from recsys.alignment.config import AlignmentConfig, RewardWeights, SupervisedConfig
from recsys.alignment.harness import Progress
from recsys.alignment.policy import PathPolicy
from recsys.alignment.prompts import draw_prompts
from recsys.alignment.rollouts import choose_codebook, sample_paths
from recsys.alignment.supervised import SupervisedLoss
from recsys.alignment.trainer import PathGRPOTrainer
from recsys.codes.validity import ValidityIndex
from recsys.contracts import History
from recsys.core import telemetry
from recsys.core.errors import DataError
from recsys.data.events import EventLog
from recsys.data.splits import training_log
from recsys.model.config import FitConfig
from recsys.model.cooccurrence_prior import CooccurrencePrior, Fold
from recsys.model.training_objective import TrainingObjective
from recsys.sequence.id_transformer import IdTransformer, IdTransformerConfig
from tests.support.cycle_world import cycle_log, generator_of, tiny_generator

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
    codes_NM = np.unique(np.random.default_rng(0).integers(0, SIZE, (40, BOOKS)), axis=0)[:ITEMS]
    generator = generator_of(codes_NM, codebook_size=SIZE)
    users = 30
    items_E = np.concatenate([(start + np.arange(8)) % ITEMS for start in np.arange(users) % ITEMS])
    log = EventLog(
        offsets_U1=np.arange(users + 1) * 8,
        items_E=items_E,
        timestamps_E=np.arange(users * 8),
        num_items=ITEMS,
    )
    return generator, log


def make_policy(generator, log, *, guidance=0.8):
    prompts = draw_prompts(log, count=10, window=2, rng=np.random.default_rng(0))
    validity = ValidityIndex(generator.codes_NM.numpy(), SIZE)
    return PathPolicy(generator, validity=validity, prompts=prompts, guidance=guidance)


def make_roller(policy, prompts, config):
    codewords_MKD = np.random.default_rng(0).normal(size=(BOOKS, SIZE, 5)).astype(np.float32)
    codes_NM = policy.backbone.generator.codes_NM.numpy()
    category_N = np.arange(ITEMS) % CATEGORIES
    rubric = build_rubric(config, codewords_MKD=codewords_MKD, codes_NM=codes_NM, category_N=category_N)
    return RolloutCollector(policy, prompts, rubric, config=config, seed=1)


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(0, 8), min_size=1, max_size=6).filter(lambda x: max(x) >= 4),
    seed=st.integers(0, 9),
)
def test_prompts_when_drawn_from_training_log_then_never_touch_held_out_items(lengths, seed):
    log = make_log(lengths)
    prompts = draw_prompts(training_log(log), count=20, window=3, rng=np.random.default_rng(seed))
    for history, targets_H in zip(prompts.histories, prompts.targets_BH, strict=True):
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


def test_draw_prompts_when_latest_events_are_asked_then_no_other_is_a_target() -> None:
    log = make_log([6, 2, 9])
    prompts = draw_prompts(log, count=50, window=3, rng=np.random.default_rng(0), latest=2)
    # users of 6, 2 and 9 events: what comes next is the fifth or sixth, the second, the eighth or ninth
    assert {len(history.items) for history in prompts.histories} == {4, 5, 1, 7, 8}


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
    items = {tuple(codes): item for item, codes in enumerate(generator.codes_NM.tolist())}
    reached = [items[tuple(codes)] for codes in paths.tokens_RM.tolist()]  # every path is an item of the catalogue
    for item, prompt in zip(reached, np.repeat(np.arange(10), 8), strict=True):
        assert item not in policy.backbone.prompts.histories[prompt].items
    assert all(sorted(row) == list(range(BOOKS)) for row in paths.book_RO.tolist())
    np.testing.assert_allclose(paths.category_ROQ.sum(dim=2), 1.0, atol=1e-5)


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


def test_demonstrations_when_asked_for_then_walk_to_the_windows_items_and_the_rest_is_sampled(world):
    generator, log = world
    policy = make_policy(generator, log)
    prompts = policy.backbone.prompts
    config = AlignmentConfig(group_size=4, demonstrations=2, window=2)
    collector = make_roller(policy, prompts, config)
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
    assert rollouts.account["demonstrations"] == pytest.approx(shown / 40)
    assert shown > 12
    ids = torch.cat([rollouts.prompt_R[:, None], rollouts.paths.token_ids(SIZE)], dim=1)
    forced = policy(ids).logits[:, :-1].log_softmax(dim=-1).gather(2, ids[:, 1:, None]).squeeze(2)
    np.testing.assert_allclose(forced[:, 1::2].detach(), rollouts.paths.log_prob_RO, atol=1e-5)
    plain = collector.collect(collector.groups(torch.arange(10)), "try", demonstrate=False)
    assert plain.account["demonstrations"] == 0
    assert plain.account["group_hits"] >= rollouts.account["group_hits"]  # a demonstration is not a find


def test_path_when_only_the_item_head_is_heard_then_its_probability_is_the_items(world):
    # With guidance 1 a step's conditionals multiply out to the item's share of the belief in what the user lacks.
    generator, log = world
    policy = make_policy(generator, log, guidance=1.0)
    prompt_R = torch.arange(10).repeat_interleave(4)
    paths = sample_paths(policy.backbone, prompt_R, temperature=1.0, rng=torch.Generator().manual_seed(2))
    items = {tuple(codes): item for item, codes in enumerate(generator.codes_NM.tolist())}
    for prompt, codes, log_prob in zip(prompt_R.tolist(), paths.tokens_RM.tolist(), paths.log_prob_RO, strict=True):
        history = policy.backbone.prompts.histories[prompt]
        belief_N = generator.item_log_probs(generator.encode([history]), [history.items])[0].detach().exp()
        belief_N[history.items] = 0
        wanted = belief_N[items[tuple(codes)]] / belief_N.sum()
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


def test_prior_scores_when_looked_up_then_come_from_the_fold_without_the_user():
    # Users 0 and 1 share items 0 and 1; with each in a fold of its own, user 0's pair is told by user 1's history.
    log = EventLog(
        offsets_U1=np.array([0, 3, 6]),
        items_E=np.array([0, 1, 2, 0, 1, 3]),
        timestamps_E=np.arange(6),
        num_items=4,
    )
    folds = [
        Fold(log=log.first(np.array([3, 0])), prior=CooccurrencePrior.of(log.first(np.array([0, 3])))),
        Fold(log=log.first(np.array([0, 3])), prior=CooccurrencePrior.of(log.first(np.array([3, 0])))),
    ]
    prompts = draw_prompts(log, count=4, window=1, rng=np.random.default_rng(0), folds=folds)
    told = sum(part.toarray() for part in prompts.prior_scores_of(np.arange(4)))
    assert told[:, 2].max() > 0  # item 2 is known to user 0 alone, so only user 1 is told of it
    for told_N in told:
        assert not (told_N[2] > 0 and told_N[3] > 0)  # nobody hears of the other's item and of its own


CONFIG = AlignmentConfig(
    steps=4,
    prompts_per_step=4,
    group_size=4,
    learning_rate=1e-2,
    schedule="constant",
    dropout=False,
    latest_events=0,
    top_n=1,
    window=2,
    decay=0.8,
    probe_prompts=16,
    supervised=SupervisedConfig(weight=0.0),
)


def run(world, config, folder, seed=3):
    generator, log = world
    codewords = np.random.default_rng(0).normal(size=(BOOKS, SIZE, 5)).astype(np.float32)
    category_N = np.arange(ITEMS) % CATEGORIES
    return align(
        generator, log, config=config, seed=seed, codewords_MKD=codewords, category_N=category_N, folder=folder
    )


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


def supervised(folder, *, steps=8, **update):
    """Align a small real generator with a member by the supervised_loss and return it with the report."""
    log = cycle_log()
    generator = tiny_generator(prior=CooccurrencePrior.of(log))
    torch.manual_seed(9)
    config = IdTransformerConfig(width=8, layers=1, heads=1, max_length=6)
    generator.add_member(IdTransformer(config, 20), config, torch.zeros(0, dtype=torch.long))
    generator.config.member_share = 0.3
    update = {
        "steps": steps,
        "save_every": 4,
        "supervised": SupervisedConfig(weight=1.0),
        "learning_rate": 0.01,
    } | update
    codewords_MKD = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    report = align(
        generator,
        log,
        config=CONFIG.model_copy(update=update),
        seed=3,
        codewords_MKD=codewords_MKD,
        category_N=np.arange(20) % 3,
        folder=folder,
        fit=FitConfig(batch_positions=32),
    )
    return generator, log, report


NO_REWARD = RewardWeights(step=0, category=0, consistency=0, path=0)


@pytest.mark.parametrize("method", ["grpo", "dpo"])
def test_align_when_anchored_then_a_killed_run_goes_on_and_the_member_is_as_it_was(tmp_path, method):
    whole, _, _ = supervised(tmp_path / "whole", method=method)
    wanted = {name: value.clone() for name, value in whole.state_dict().items()}
    supervised(tmp_path / "cut", method=method)
    shutil.rmtree(tmp_path / "cut" / "checkpoint-8")  # as if it had been killed after step 4
    again, _, report = supervised(tmp_path / "cut", method=method)
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, wanted[name], rtol=0, atol=0)
    assert [step["step"] for step in report.steps] == list(range(1, 9))
    assert all(0 < step["supervised"] < step["loss"] + 1 for step in report.steps)
    torch.manual_seed(9)
    fresh = IdTransformer(IdTransformerConfig(**again.config.member), 20)
    torch.testing.assert_close(again.head.member.items.weight, fresh.items.weight)
    assert again.config.member_share == 0.3


def test_alignment_config_when_demonstrations_fill_a_group_then_says_what_to_change():
    with pytest.raises(ValueError, match=r"raise alignment\.group_size"):
        AlignmentConfig(group_size=4, demonstrations=4)


def test_progress_when_training_goes_on_then_counts_from_there(monkeypatch):
    lines = []
    monkeypatch.setattr(telemetry, "_LINE_EVERY_SECONDS", 0)
    monkeypatch.setattr(telemetry.LOG, "info", lambda text, *values: lines.append(text % values))
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    progress = Progress(5)
    progress.on_train_begin(None, TrainerState(global_step=3))
    for _ in range(2):
        progress.on_step_begin()
    progress.on_train_end()
    assert lines == ["alignment: 4 of 5", "alignment: 5 of 5"]


def test_align_when_only_anchored_then_learns_what_the_log_says(tmp_path):
    generator, log, report = supervised(tmp_path, steps=60, weights=NO_REWARD)
    assert report.flat_group_rate == 1.0
    before = tiny_generator(prior=CooccurrencePrior.of(log))
    items = np.array([4, 5, 6])
    history = History(items=items, timestamps=items * 3600)
    with torch.inference_mode():
        told = [one.item_log_probs(one.encode([history]), [items])[0, 7].item() for one in (before, generator)]
    assert told[1] > told[0] + 0.2


def test_anchor_when_asked_out_of_order_then_a_step_has_the_same_batch():
    log = cycle_log()
    objective = TrainingObjective(tiny_generator(), log, np.arange(20) % 3, FitConfig(batch_positions=32), seed=3)
    supervised_loss = SupervisedLoss(objective, objective.generator, CONFIG)
    far = 2 * supervised_loss.steps_a_pass + 1
    late = supervised_loss._batch(far).items_BT
    early = supervised_loss._batch(1).items_BT
    assert np.array_equal(supervised_loss._batch(far).items_BT, late)
    assert np.array_equal(supervised_loss._batch(1).items_BT, early)
    # a pass names every event once
    events = sum(supervised_loss._batch(step).lengths_B.sum() for step in range(supervised_loss.steps_a_pass))
    assert events == len(log.items_E)


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
