"""The generator, its losses, its batches, and training that survives a kill."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from scipy import sparse
from torch.nn import functional
from transformers import AutoModel

from recsys.codes.validity import ValidityIndex
from recsys.contracts import History
from recsys.core.errors import ArtifactError
from recsys.data.events import build_log
from recsys.data.splits import Questions
from recsys.model.batches import epoch_batches
from recsys.model.calibrate import item_head_ndcg
from recsys.model.config import FitConfig
from recsys.model.cooccurrence_prior import WINDOWS, CooccurrencePrior, cross_fit, likeness_table
from recsys.model.fit import Pretrainer, pretrain
from recsys.model.generator import Generator
from recsys.model.item_head import LogitTerms
from recsys.model.losses import ItemQueries, item_beliefs, item_loss, token_loss
from recsys.model.partial import draw_partial_paths, implied_targets, true_targets
from recsys.model.training_objective import draw_ahead
from tests.support.cycle_world import cycle_log, tiny_generator


def test_item_loss_when_chunked_then_equals_plain_cross_entropy_with_gradients() -> None:
    torch.manual_seed(1)
    queries = torch.randn(300, 8, requires_grad=True)
    items = functional.normalize(torch.randn(40, 8), dim=-1).requires_grad_()
    targets = torch.randint(0, 40, (300,))
    seen = torch.randint(0, 40, (300, 3))
    seen = torch.where(seen == targets[:, None], targets[:, None], seen)
    weight = torch.tensor([0.7, -0.4], requires_grad=True)
    prior_scores = [
        sparse.random_array((300, 40), density=0.2, format="csr", dtype=np.float32, rng=k) for k in range(2)
    ]
    told = torch.stack([torch.from_numpy(sparse.csr_array(part).toarray()) for part in prior_scores])
    all_logits = queries @ items.T + (weight[:, None, None] * told).sum(0)
    absent = torch.tensor([3, 39])
    targets[torch.isin(targets, absent)] = 5
    seen = torch.where(torch.isin(seen, absent), targets[:, None], seen)
    logits = all_logits.scatter(1, seen, float("-inf")).index_fill(1, absent, float("-inf"))
    logits = logits.scatter(1, targets[:, None], all_logits.gather(1, targets[:, None]))
    plain = functional.cross_entropy(logits, targets)
    wanted = torch.autograd.grad(plain, (queries, items, weight))
    asked = ItemQueries(targets_R=targets, seen_RT=seen, absent_X=absent, prior_scores=prior_scores)
    got_loss = item_loss(LogitTerms(queries_BD=queries, keys_ND=items, weight_J=weight, bias_N=torch.zeros(40)), asked)
    got = torch.autograd.grad(got_loss, (queries, items, weight))
    # Products may run in bfloat16, which keeps 8 bits: 1/256 of the value.
    assert got_loss.item() == pytest.approx(plain.item(), rel=0.01)
    for mine, theirs in zip(got, wanted, strict=True):
        assert (mine - theirs).norm() / theirs.norm() < 0.02


def test_item_loss_when_the_answer_is_a_draw_then_equals_plain_cross_entropy_with_beliefs() -> None:
    torch.manual_seed(2)
    queries, items = torch.randn(150, 8, requires_grad=True), torch.randn(30, 8)
    seen = torch.randint(0, 10, (150, 3))
    belief = torch.rand(150, 30).scatter(1, seen, 0.0)
    belief = belief / belief.sum(1, keepdim=True)
    logits = (queries @ items.T).scatter(1, seen, -1e9)
    plain = functional.cross_entropy(logits, belief)
    targets = belief.argmax(1)
    asked = ItemQueries(targets_R=targets, seen_RT=seen, absent_X=torch.zeros(0, dtype=torch.long), belief_RN=belief)
    terms = LogitTerms(queries_BD=queries, keys_ND=items, weight_J=torch.zeros(0), bias_N=torch.zeros(30))
    got = item_loss(terms, asked)
    assert got.item() == pytest.approx(plain.item(), rel=0.01)
    mine, theirs = (torch.autograd.grad(loss, queries)[0] for loss in (got, plain))
    assert (mine - theirs).norm() / theirs.norm() < 0.02


def test_draw_ahead_when_some_items_are_missing_then_the_rest_share_by_decay() -> None:
    left = np.array([1, 2, 5]).repeat(20_000)
    drawn = draw_ahead(left, 3, 0.5, np.random.default_rng(0)).reshape(3, -1)
    shares = [np.bincount(row, minlength=3) / 20_000 for row in drawn]
    # one item left: it; two: 1 to .5, so 2/3 and 1/3; three or more: 1 to .5 to .25, so 4/7, 2/7 and 1/7
    np.testing.assert_allclose(shares, [[1, 0, 0], [2 / 3, 1 / 3, 0], [4 / 7, 2 / 7, 1 / 7]], atol=0.02)
    assert not draw_ahead(left, 1, 0.5, np.random.default_rng(0)).any()


def test_batches_when_a_users_history_is_cut_then_only_the_window_at_its_end_is_closed() -> None:
    # histories of 9 events in windows of at most 6: the last window of each user ends the history, no other does
    log = cycle_log(num_users=5)
    drawn = list(epoch_batches(log, max_length=6, positions=8, rng=np.random.default_rng(0)))
    assert sum(batch.closed_B.sum() for batch in drawn) == 5
    for batch in drawn:
        ends_B = batch.timestamps_BT[np.arange(len(batch.lengths_B)), batch.lengths_B - 1]
        assert (batch.closed_B == (ends_B == 8 * 3600)).all()


def test_token_loss_when_two_codes_allowed_then_is_log_two() -> None:
    logits = torch.zeros(1, 2, 4)
    allowed = torch.tensor([[[True, True, False, False], [True, False, False, False]]])
    targets = torch.tensor([[[1.0, 0, 0, 0], [1.0, 0, 0, 0]]])
    loss = token_loss(logits, allowed, targets, torch.tensor([[True, True]]))
    # Codebook 0 leaves two equal choices: -log(1/2) = .6931; codebook 1 leaves none and does not count.
    assert loss.item() == pytest.approx(0.693147, abs=1e-5)


def test_encode_prefixes_when_the_future_changes_then_the_past_does_not() -> None:
    generator = tiny_generator()
    items = torch.tensor([[1, 2, 3, 4]])
    times = torch.tensor([[0, 10, 20, 30]])
    vectors = generator.items()
    with torch.inference_mode():
        before = generator.encode_prefixes(items, times, vectors).own_BTD
        items[0, 3], times[0, 3] = 9, 99999
        after = generator.encode_prefixes(items, times, vectors).own_BTD
    assert torch.allclose(before[0, :4], after[0, :4], atol=1e-6)
    assert not torch.allclose(before[0, 4], after[0, 4], atol=1e-4)


def test_encode_when_batched_with_longer_histories_then_equals_alone() -> None:
    generator = tiny_generator()
    histories = [History(items=np.arange(n), timestamps=np.arange(n) * 100) for n in (0, 2, 5, 9)]
    with torch.inference_mode():
        together = generator.encode(histories).own_BD
        alone = torch.cat([generator.encode([history]).own_BD for history in histories])
    assert torch.allclose(together, alone, atol=1e-5)


def test_start_ids_from_when_given_likeness_then_id_vectors_are_it_cut_or_padded() -> None:
    generator = tiny_generator()
    generator.items.start_ids_from(torch.tensor([[3.0, 4.0]]).repeat(20, 1))
    # (3, 4) has length 5: the unit vector is (.6, .8), padded with zeros to width 16.
    assert torch.allclose(generator.items.id_embedding.weight[7], torch.tensor([0.6, 0.8] + [0.0] * 14))


def test_generator_when_saved_then_automodel_loads_it_equal(tmp_path) -> None:  # type: ignore[no-untyped-def]
    generator = tiny_generator(prior=CooccurrencePrior.of(cycle_log()))
    generator.history.set_calendar(cycle_log().timestamps_E)
    generator.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    history = [History(items=np.array([3, 4]), timestamps=np.array([0, 60]))]
    items = [history[0].items]
    with torch.inference_mode():
        assert torch.equal(
            again.item_log_probs(again.encode(history), items),
            generator.item_log_probs(generator.encode(history), items),
        )
        assert all(prior_BN.sum() > 0 for prior_BN in again.head.prior().scores(items))
    assert torch.equal(again.codes_NM, generator.codes_NM)


def test_memory_when_asked_then_equals_votes_counted_by_hand() -> None:
    # One user walks 0, 1, 2; another 0, 1. Counts: item 0 twice, 1 twice, 2 once. Pairs one apart: 0-1 twice, 1-2 once.
    log = build_log(
        np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 0, 1]), np.arange(5), np.arange(5), num_users=2, num_items=3
    )
    prior = CooccurrencePrior.of(log)
    # Next to 1: item 0 with 2 / sqrt(2 * 2) = 1, item 2 with 1 / sqrt(2 * 1) = .7071; votes v tell log(1 + v / .02).
    immediate = WINDOWS.index(next(window for window in WINDOWS if window.distance == 1))
    told = prior.scores([np.array([2, 1]), np.array([], np.int64)])[immediate].toarray()
    np.testing.assert_allclose(told[0], [np.log(1 + 1 / 0.02), 0, np.log(1 + 0.70711 / 0.02)], rtol=1e-4)
    assert not told[1].any()
    # Five apart: 0-2 is a pair too, 1 / sqrt(2 * 1). Of the history 2, 1 the newest votes whole, the other times .7:
    # item 0 gets 1 + .7 * .7071 = 1.495.
    near = prior.scores([np.array([2, 1])])[0].toarray()
    assert near[0, 0] == pytest.approx(np.log(1 + 1.49497 / 0.02), rel=1e-4)


def test_likeness_table_when_items_are_alike_then_holds_powers_of_their_cosines() -> None:
    # (1, 0) and (.6, .8) have cosine .6: .6 ** 4 = .1296; the zero row has nobody, and (0, 1) is .8 from the second.
    table = likeness_table(np.array([[2.0, 0.0], [0.6, 0.8], [0.0, 0.0], [0.0, 1.0]], np.float32)).toarray()
    wanted = np.zeros((4, 4))
    wanted[0, 1] = wanted[1, 0] = 0.1296
    wanted[1, 3] = wanted[3, 1] = 0.4096
    np.testing.assert_allclose(table, wanted, atol=1e-6)


def test_cross_fit_when_users_are_dealt_out_then_no_fold_remembers_its_own_pairs() -> None:
    log = cycle_log()
    folds = cross_fit(log, 4, np.random.default_rng(0))
    assert sum(len(fold.log.items_E) for fold in folds) == len(log.items_E)
    for fold in folds:
        own_U = fold.log.lengths_U > 0
        others = CooccurrencePrior.of(log.first(np.where(own_U, 0, log.lengths_U)))
        assert all((ours != theirs).nnz == 0 for ours, theirs in zip(fold.prior.tables, others.tables, strict=True))
        whole = CooccurrencePrior.of(log)
        assert fold.prior.tables[0].sum() != whole.tables[0].sum()


def test_set_calendar_when_times_are_spread_then_spans_hold_equal_numbers() -> None:
    generator = tiny_generator()
    generator.history.set_calendar(np.arange(6400))
    spans = torch.bucketize(torch.arange(6400), generator.history.calendar_edges)
    # 6,400 events in 64 spans: a hundred in each, give or take the edges.
    assert len(spans.unique()) == 64
    assert (torch.bincount(spans) - 100).abs().max() <= 1


def test_load_when_a_weight_is_missing_then_says_train_again(tmp_path) -> None:  # type: ignore[no-untyped-def]
    generator = tiny_generator()
    generator.save(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["history.calendar_in.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=r"calendar_in\.weight.*train the run again"):
        Generator.load(tmp_path)


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_epoch_batches_when_cut_then_hold_every_event_once(lengths: list[int], seed: int) -> None:
    lengths = [*lengths, 1]
    users = np.repeat(np.arange(len(lengths)), lengths)
    events = np.arange(len(users))
    log = build_log(users, events, events, events, num_users=len(lengths), num_items=len(events))
    found: list[int] = []
    for batch in epoch_batches(log, max_length=7, positions=20, rng=np.random.default_rng(seed)):
        assert batch.lengths_B.max() <= 7
        for row, length in enumerate(batch.lengths_B):
            found.extend(batch.items_BT[row, :length])
    assert sorted(found) == list(events)


def test_epoch_batches_when_ties_are_shuffled_then_time_still_ascends_and_items_stay() -> None:
    # Two users; the first has a tie at time 5, the second none.
    users, items, times = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 3, 4]), np.array([5, 5, 9, 1, 2])
    log = build_log(users, items, times, np.arange(5), num_users=2, num_items=5)
    orders = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        for batch in epoch_batches(log, max_length=7, positions=20, rng=rng, shuffle_ties=1.0):
            for row, length in enumerate(batch.lengths_B):
                assert (np.diff(batch.timestamps_BT[row, :length]) >= 0).all()
                orders.add(tuple(batch.items_BT[row, :length].tolist()))
    assert orders == {(0, 1, 2), (1, 0, 2), (3, 4)}


def test_draw_partial_paths_when_masked_then_the_truth_is_always_allowed() -> None:
    codes_NM = np.random.default_rng(0).integers(0, 6, (50, 3))
    paths = draw_partial_paths(ValidityIndex(codes_NM, 6), codes_NM, (0.4, 0.3, 0.3), np.random.default_rng(1))
    for row in range(50):
        known = paths.partial_RM[row] >= 0
        alive = (codes_NM[:, known] == codes_NM[row, known]).all(1)
        for book in range(3):
            assert paths.allowed_RMK[row, book, codes_NM[row, book]]
            assert set(np.flatnonzero(paths.allowed_RMK[row, book])) == set(codes_NM[alive, book])


def test_implied_targets_when_summed_then_equal_the_belief_in_compatible_items_by_code() -> None:
    codes_NM = np.random.default_rng(0).integers(0, 4, (30, 3))
    paths = draw_partial_paths(ValidityIndex(codes_NM, 4), codes_NM, (0.3, 0.4, 0.3), np.random.default_rng(1))
    beliefs = torch.softmax(torch.randn(30, 30, generator=torch.Generator().manual_seed(2)), dim=-1)
    implied = implied_targets(paths, beliefs, torch.from_numpy(codes_NM.T.copy()))
    for row in range(30):
        known = paths.partial_RM[row] >= 0
        alive = (codes_NM[:, known] == codes_NM[row, known]).all(1)
        for book in range(3):
            slow = np.zeros(4)
            for item in np.flatnonzero(alive):
                slow[codes_NM[item, book]] += float(beliefs[row, item])
            np.testing.assert_allclose(implied[row, book], slow / slow.sum(), atol=1e-5)
    truth = true_targets(paths)
    assert (truth.argmax(-1).numpy() == paths.codes_RM).all()
    assert (truth.sum(-1) == 1).all()


def test_item_beliefs_when_asked_then_are_the_softmax_that_the_item_loss_trains() -> None:
    torch.manual_seed(5)
    queries, items = torch.randn(20, 8) * 2, functional.normalize(torch.randn(15, 8), dim=-1)
    prior_scores = [sparse.random_array((20, 15), density=0.3, format="csr", dtype=np.float32, rng=1)]
    targets = torch.randint(0, 10, (20,))
    seen = torch.where(torch.randint(0, 10, (20, 2)) == targets[:, None], targets[:, None], torch.tensor([[11, 12]]))
    asked = ItemQueries(targets_R=targets, seen_RT=seen, absent_X=torch.tensor([14]), prior_scores=prior_scores)
    terms = LogitTerms(queries_BD=queries, keys_ND=items, weight_J=torch.tensor([0.8]), bias_N=torch.zeros(15))
    beliefs = item_beliefs(terms, asked)
    assert torch.allclose(beliefs.sum(-1), torch.ones(20), atol=1e-5)
    loss = item_loss(terms, asked)
    assert -beliefs.gather(1, targets[:, None]).log().mean() == pytest.approx(loss.item(), rel=1e-3)
    assert not beliefs[:, 14].any()


def fitted(tmp_path, epochs: int, stop_after: int | None = None) -> Generator:  # type: ignore[no-untyped-def]
    """Train on the circle; with ``stop_after`` the run dies after that many epochs and is started again."""
    log = cycle_log()
    histories = [log.history(user, drop_last=1) for user in range(40)]
    targets = np.array([log.history(user).items[-1] for user in range(40)])
    asked = Questions(users_U=np.arange(40), histories=histories, targets_U=targets)
    config = FitConfig(epochs=epochs, batch_positions=64, learning_rate=1e-2)
    calls = 0

    def validate(generator: Generator) -> float:
        nonlocal calls
        calls += 1
        if stop_after is not None and calls > stop_after:
            raise KeyboardInterrupt
        return item_head_ndcg(generator, asked)

    generator = tiny_generator(prior=CooccurrencePrior.of(log))
    trainer = Pretrainer(generator, log, np.arange(20) % 3, config, seed=3)
    pretrain(trainer, validate=validate, checkpoint=tmp_path / "checkpoint.pt")
    return generator


def test_pretrain_when_the_world_is_a_circle_then_learns_the_next_item(tmp_path) -> None:  # type: ignore[no-untyped-def]
    generator = fitted(tmp_path, epochs=12)
    with torch.inference_mode():
        items = np.array([4, 5, 6])
        state = generator.encode([History(items=items, timestamps=np.arange(3) * 3600)])
        scores = generator.item_log_probs(state, [items])
    scores = scores.clone()
    scores[0, [4, 5, 6]] = -torch.inf  # training takes what a user has out of the softmax
    assert scores.argmax().item() == 7


def test_losses_when_only_the_latest_events_are_asked_then_are_theirs() -> None:
    log = cycle_log(num_users=6)
    trainer = Pretrainer(tiny_generator(prior=CooccurrencePrior.of(log)), log, np.arange(20) % 3, FitConfig(), seed=3)
    batch = next(trainer.objective.batches(0))

    def item_loss_of(latest: int | None) -> float:
        return trainer.objective.losses(batch, np.random.default_rng(0), latest=latest)["item"].item()

    lengths_B, every = batch.lengths_B, item_loss_of(None)
    shorter = replace(batch, lengths_B=lengths_B - 1)
    but_last = trainer.objective.losses(shorter, np.random.default_rng(0))["item"].item()
    # the sum over all events is that over the latest ones and that over the rest
    left = (lengths_B - 1).sum()
    assert item_loss_of(1) * len(lengths_B) == pytest.approx(every * lengths_B.sum() - but_last * left, rel=1e-4)
    assert item_loss_of(int(lengths_B.max())) == pytest.approx(every)


def test_learning_rate_when_the_final_phase_begins_then_starts_anew_and_lower() -> None:
    log = cycle_log()
    config = FitConfig(epochs=2, final_epochs=1, final_rate=0.25, learning_rate=0.1, batch_positions=8)
    trainer = Pretrainer(tiny_generator(), log, np.arange(20) % 3, config, seed=3)
    share = trainer._share_of_rate()
    rates = [share(step) for step in range(3 * trainer.batches)]
    assert max(rates[: 2 * trainer.batches]) > 0.9
    assert rates[2 * trainer.batches - 1] < 0.01
    assert 0.2 < max(rates[2 * trainer.batches :]) <= 0.25
    assert share(3 * trainer.batches) == 0


def test_pretrain_when_killed_then_goes_on_to_the_same_weights(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = fitted(tmp_path / "whole", epochs=4)
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "killed", epochs=4, stop_after=2)
    again = fitted(tmp_path / "killed", epochs=4)
    for name, weights in whole.state_dict().items():
        assert torch.equal(weights, again.state_dict()[name]), name
