"""The item head's member, and the numbers that validation chooses for the head."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel

from recsys.contracts import History
from recsys.data.splits import Questions, questions, training_log
from recsys.model.calibrate import (
    DISCOUNTS,
    ROOM_COST,
    SHARES,
    UNUSED_BIASES,
    calibrate,
    discount_popularity,
    item_head_ndcg,
)
from recsys.model.config import FitConfig
from recsys.model.cooccurrence_prior import CooccurrencePrior
from recsys.model.fit import Pretrainer, pretrain
from recsys.model.generator import Generator
from recsys.sequence import id_training
from recsys.sequence.id_training import fit_id_transformer
from recsys.sequence.id_transformer import IdTransformer, IdTransformerConfig, score_histories
from recsys.sequence.validation import mean_ndcg, summed_ndcg
from tests.support.cycle_world import cycle_log, tiny_generator

NOBODY = torch.zeros(0, dtype=torch.long)
SMALL = IdTransformerConfig(width=8, layers=1, heads=2, max_length=6, epochs=15, batch_positions=64, learning_rate=1e-2)


def history(*items: int) -> History:
    return History(items=np.array(items, np.int64), timestamps=np.arange(len(items)) * 3600)


def asked_for(histories: list[History], targets: list[int]) -> Questions:
    return Questions(users_U=np.arange(len(targets)), histories=histories, targets_U=np.array(targets))


def with_member(config: IdTransformerConfig = SMALL) -> Generator:
    """A generator that knows nothing beside a member that knows the circle."""
    log = cycle_log()
    member = fit_id_transformer(training_log(log), config, seed=3, name="member", device=torch.device("cpu"))
    generator = tiny_generator(prior=CooccurrencePrior.of(training_log(log)))
    generator.set_members([(member, config)], NOBODY)
    return generator


def test_prefix_states_when_read_in_one_pass_then_equal_each_prefix_alone() -> None:
    torch.manual_seed(0)
    network = IdTransformer(SMALL, 20).eval()
    items_BT = torch.tensor([[3, 1, 4, 1, 5, 9]])
    with torch.inference_mode():
        states_TD = network.prefix_states(items_BT)[0]
        assert not states_TD[0].any()
        for length in range(1, 7):
            assert torch.allclose(states_TD[length], network(items_BT[:, :length])[0, -1], atol=1e-6)
        assert network.prefix_states(items_BT[:, :0]).shape == (1, 1, 8)


def test_fit_id_transformer_when_killed_then_goes_on_to_the_same_weights(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    log, config = cycle_log(), SMALL.model_copy(update={"epochs": 6, "validate_every": 2})
    validate, calls = id_training._validate, 0

    def fit(checkpoint: Path) -> IdTransformer:
        queries, cpu = questions(log, "validation"), torch.device("cpu")
        known = training_log(log)
        return fit_id_transformer(
            known, config, seed=3, name="x", device=cpu, validation=queries, checkpoint=checkpoint
        )

    def dies_at_the_second(*args: Any) -> float:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return validate(*args)

    whole = fit(tmp_path / "whole.pt")
    monkeypatch.setattr(id_training, "_validate", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "killed.pt")
    again = fit(tmp_path / "killed.pt")
    assert calls == 2 + 2  # epochs 2 and 4, then 4 and 6
    for name, weights in whole.state_dict().items():
        assert torch.equal(weights, again.state_dict()[name]), name


def test_item_logits_when_there_is_a_member_then_are_the_shares_of_both() -> None:
    generator = with_member()
    queries = [history(4, 5, 6), history(), history(*range(9))]
    items = [one.items for one in queries]
    assert generator.head.members is not None

    def logits(share: float) -> torch.Tensor:
        generator.config.member_share = share
        with torch.inference_mode():
            keys_ND = generator.head.keys(generator.items())
            return generator.head.logits(generator.encode(queries), keys_ND, generator.head.prior().scores(items))

    alone = torch.from_numpy(score_histories(generator.head.members.networks[0], SMALL, queries))
    assert torch.allclose(logits(1.0), alone, atol=1e-4)
    # linear in the share, prior included: .3 of the member and .7 of the rest
    assert torch.allclose(logits(0.3), 0.7 * logits(0.0) + 0.3 * alone, atol=1e-4)
    assert not alone[1].any()  # nothing to say of nothing


def test_generator_when_a_member_is_added_and_saved_then_automodel_loads_it_equal(tmp_path) -> None:  # type: ignore[no-untyped-def]
    generator = with_member()
    generator.config.member_share, generator.config.repeat_bias = 0.4, -2.0
    generator.save(tmp_path)
    loaded = Generator.load(tmp_path)
    assert loaded.head.members is not None
    assert not any(weight.requires_grad for weight in loaded.head.members.parameters())  # it stays as it is
    for again in (loaded, AutoModel.from_pretrained(tmp_path).eval()):
        queries = [history(4, 5, 6)]
        with torch.inference_mode():
            ours, theirs = (one.item_log_probs(one.encode(queries), [queries[0].items]) for one in (generator, again))
        assert torch.equal(ours, theirs)


def test_set_members_when_the_member_reads_less_then_says_what_to_change() -> None:
    short = SMALL.model_copy(update={"max_length": 3})
    with pytest.raises(ValueError, match="max_length=6"):
        tiny_generator().set_members([(IdTransformer(short, 20), short)], NOBODY)


def test_set_members_when_an_item_was_never_used_then_the_member_says_nothing_of_it() -> None:
    generator = tiny_generator()
    generator.set_members([(IdTransformer(SMALL, 20), SMALL)], torch.tensor([7]))
    assert generator.head.members is not None
    (member,) = generator.head.members.networks
    scores_BN = score_histories(member.eval(), SMALL, [history(1, 2)])
    assert scores_BN[0, 7] == 0
    assert scores_BN[0, 8] != 0


def test_calibrate_when_a_member_knows_more_then_gets_the_share_that_trying_each_finds_best() -> None:
    generator = with_member()
    queries = questions(cycle_log(), "validation")
    chosen = calibrate(generator, queries, NOBODY)
    found = item_head_ndcg(generator, queries)
    tried = []
    for share in SHARES:
        generator.config.member_share = share
        tried.append(item_head_ndcg(generator, queries))
    assert chosen.member_share == SHARES[int(np.argmax(tried))]
    assert found == pytest.approx(max(tried))


@pytest.mark.parametrize(("again", "sign"), [(True, 1), (False, -1)])
def test_calibrate_when_users_do_or_never_come_back_to_an_item_then_repeats_are_lifted_or_sunk(
    again: bool, sign: int
) -> None:
    histories = [history(*(np.arange(user, user + 4) % 20)) for user in range(20)]
    targets = [int(one.items[0]) if again else int(one.items[-1] + 1) % 20 for one in histories]
    generator = tiny_generator(prior=CooccurrencePrior.of(cycle_log()))
    chosen = calibrate(generator, asked_for(histories, targets), NOBODY)
    assert np.sign(chosen.repeat_bias) == sign
    assert generator.config.repeat_bias == chosen.repeat_bias


def test_calibrate_when_an_item_was_never_used_then_validation_picks_its_bias() -> None:
    log = cycle_log(num_users=15, num_items=30)  # users start at 0..14 and walk nine steps: items 23..29 stay unused
    generator = tiny_generator(num_items=30, prior=CooccurrencePrior.of(log))
    trainer = Pretrainer(generator, log, np.arange(30) % 3, FitConfig(epochs=2, batch_positions=64), seed=3)
    assert trainer.objective.unused_X.tolist() == list(range(23, 30))
    pretrain(trainer, validate=lambda _: 1.0)
    assert not generator.items.id_embedding.weight[trainer.objective.unused_X].any()
    queries = asked_for([log.history(user) for user in range(15)], [22] * 15)
    chosen = calibrate(generator, queries, trainer.objective.unused_X)
    assert (generator.head.bias_N[trainer.objective.unused_X] == chosen.unused_bias).all()
    assert not generator.head.bias_N[:23].any()
    tried = []
    for bias in UNUSED_BIASES:
        generator.head.bias_N[trainer.objective.unused_X] = bias
        tried.append(item_head_ndcg(generator, queries))
    # nobody ever goes on to an unused item: the most room within the cost is given
    affordable = [ndcg >= (1 - ROOM_COST) * max(tried) for ndcg in tried]
    assert chosen.unused_bias == UNUSED_BIASES[affordable.index(True)]


def test_discount_popularity_when_accuracy_has_a_floor_then_is_the_largest_that_trying_each_finds_above_it() -> None:
    log = cycle_log(num_users=40)
    generator, asked = tiny_generator(prior=CooccurrencePrior.of(log)), questions(log, "validation")
    counts_N = np.array([0, 1, *range(2, 20)])  # not the log's: popularity that the log does not have costs accuracy
    bias_N = torch.arange(20.0) / 10
    log_N = torch.from_numpy(np.log(np.maximum(counts_N, 1))).float()
    tried = []
    for discount in (*DISCOUNTS, 0.0):
        generator.head.bias_N.copy_(bias_N - discount * log_N)
        tried.append(item_head_ndcg(generator, asked))
    assert len(set(tried)) > 2
    for floor in sorted(set(tried)):
        generator.head.bias_N.copy_(bias_N)
        found = discount_popularity(generator, asked, counts_N, least_ndcg=floor - 1e-9)
        place = next((place for place, ndcg in enumerate(tried[:-1]) if ndcg >= floor - 1e-9), len(DISCOUNTS))
        assert found == (*DISCOUNTS, 0.0)[place]
        torch.testing.assert_close(generator.head.bias_N, bias_N - found * log_N)
    generator.head.bias_N.copy_(bias_N)
    assert discount_popularity(generator, asked, counts_N, least_ndcg=2.0) == 0  # no ranking is that good
    assert torch.equal(generator.head.bias_N, bias_N)


def test_summed_ndcg_when_ranked_then_is_the_discount_of_the_pessimistic_rank() -> None:
    scores_BN = np.array([[3.0, 2.0, 2.0, 0.0], [3.0, 2.0, 1.0, 0.0]], np.float32)
    histories = [history(0), history(3)]
    # taken out 0: items 1 and 2 tie, so the target is second, 1 / log2(3) = .6309; the other target is first, 1
    assert summed_ndcg(scores_BN.copy(), histories, np.array([1, 0])) == pytest.approx(1.6309, abs=1e-4)
    # left in: third, 1 / log2(4) = .5, and first
    assert summed_ndcg(scores_BN.copy(), histories, np.array([1, 0]), keep_seen=True) == pytest.approx(1.5)
    # what a user has is never found once it is out
    assert summed_ndcg(scores_BN.copy(), histories, np.array([0, 3])) == 0
    assert mean_ndcg(lambda _: scores_BN.copy(), histories, np.array([1, 0])) == pytest.approx(1.6309 / 2, abs=1e-4)
