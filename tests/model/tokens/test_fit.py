from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.contracts import History
from recsys.core.arrays import FloatArray
from recsys.data.events import EventLog
from recsys.model.tokens.config import DistillationConfig, TokenFitConfig
from recsys.model.tokens.distil import DistillationLoss, SoftTargets, distil, drop_events, soft_targets_of
from recsys.model.tokens.fit import NextItemLoss, TargetWindows, fit_token_model
from recsys.model.tokens.mixture import token_log_probs
from recsys.model.tokens.network import TokenModel
from tests.support.cycle_world import cycle_log
from tests.support.tiny_tokens import LAYOUT, SHAPE, circle_codes, tiny_model

FIT = TokenFitConfig(epochs=6, batch_positions=64, learning_rate=0.02, shuffle_ties=0.0)
CPU = torch.device("cpu")


def _fit(fit: TokenFitConfig, **more: object) -> TokenModel:
    return fit_token_model(cycle_log(), circle_codes(), LAYOUT, SHAPE, fit, seed=3, device=CPU, **more)  # type: ignore[arg-type]


def _share_right(model: TokenModel) -> float:
    asked = [History(items=np.array([i, (i + 1) % 20]), timestamps=np.array([0, 3600])) for i in range(20)]
    return float((token_log_probs(model)(asked).argmax(1) == (np.arange(20) + 2) % 20).mean())


def test_windows_when_histories_are_longer_than_the_encoder_reads_then_every_event_is_a_target_once() -> None:
    # lengths 1, 2, 4 and 9 at 3 inputs a window
    offsets_U1 = np.array([0, 1, 3, 7, 16])
    log = EventLog(offsets_U1=offsets_U1, items_E=np.arange(16), timestamps_E=np.arange(16), num_items=16)
    windows = TargetWindows.of(log, 3)
    batch, target_BT = windows.batch(np.arange(len(windows.lengths_W)), np.random.default_rng(0), 0.0)
    assert sorted(batch.items_BT[target_BT].tolist()) == list(range(16))
    assert windows.lengths_W.max() == 4


def test_training_when_everybody_walks_a_circle_then_the_model_learns_the_next_item() -> None:
    assert _share_right(_fit(FIT)) >= 0.9


def test_training_when_the_softmax_is_sampled_then_the_model_learns_too() -> None:
    assert _share_right(_fit(FIT.model_copy(update={"sampled_above": 1, "sampled": 12}))) >= 0.9


def test_training_when_killed_and_resumed_then_the_weights_are_those_of_an_unbroken_run(tmp_path: Path) -> None:
    def killed(model: TokenModel) -> float:
        calls.append(model)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return 0.0

    calls: list[TokenModel] = []
    whole = _fit(FIT, validate=lambda _: 0.0)
    with pytest.raises(KeyboardInterrupt):
        _fit(FIT, validate=killed, checkpoint=tmp_path / "checkpoint.pt")
    resumed = _fit(FIT, validate=lambda _: 0.0, checkpoint=tmp_path / "checkpoint.pt")
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0)


def test_training_when_validation_stops_rising_then_it_ends_after_the_patience_with_the_best_weights() -> None:
    figures = iter([0.1, 0.3, 0.2, 0.2])  # best at the second epoch, two more are waited for; a fifth call would fail
    seen: list[torch.Tensor] = []

    def validate(model: TokenModel) -> float:
        seen.append(model.code_out.detach().clone())
        return next(figures)

    model = _fit(FIT.model_copy(update={"patience": 2}), validate=validate)
    assert len(seen) == 4
    torch.testing.assert_close(model.code_out, seen[1], rtol=0, atol=0)


def test_next_item_loss_when_an_item_was_never_used_then_nothing_pushes_it_down() -> None:
    log = cycle_log(num_items=20)
    log = EventLog(offsets_U1=log.offsets_U1, items_E=log.items_E, timestamps_E=log.timestamps_E, num_items=21)
    codes_NM = np.concatenate([circle_codes(), [[0, 4]]])
    alone_NM = codes_NM.copy()
    alone_NM[20, 1] = 3
    losses = [
        NextItemLoss(tiny_model(c_NM), log, FIT)(np.arange(9), np.random.default_rng(0))
        for c_NM in (codes_NM, alone_NM)
    ]
    torch.testing.assert_close(losses[0], losses[1])


def test_next_item_loss_when_logits_are_adjusted_then_popularity_is_in_the_loss_alone() -> None:
    # Items 0 to 19 of a circle, user events at random: in the loss an item's logit gains half the log of its events.
    rng = np.random.default_rng(2)
    log = EventLog(
        offsets_U1=np.arange(7) * 10,
        items_E=np.minimum(rng.geometric(0.15, 60) - 1, 19),
        timestamps_E=np.arange(60),
        num_items=20,
    )
    model = tiny_model().eval()
    plain, adjusted = (
        NextItemLoss(model, log, FIT.model_copy(update={"logit_adjustment": tau}), precision="fp32")
        for tau in (0.0, 0.5)
    )
    query_D = torch.cat([torch.randn(model.code_out.shape[1] - 1), torch.ones(1)])
    offset_N = 0.5 * np.log(np.maximum(log.counts_N, 1))
    gained_N = (adjusted.item_keys() @ query_D - plain.item_keys() @ query_D).detach().numpy()
    np.testing.assert_allclose(gained_N, offset_N, atol=1e-5)
    some_X = torch.tensor([3, 0])
    torch.testing.assert_close(adjusted.item_keys(some_X), adjusted.item_keys()[some_X])
    torch.testing.assert_close(plain.item_keys(), model.item_keys(), rtol=0, atol=0)


def test_training_when_logits_are_adjusted_then_rare_items_rank_higher() -> None:
    def share_of_rare(tau: float) -> float:
        # Nine users in ten go from item 0 to item 1, one to item 2: without adjustment item 1 is the likelier.
        log = EventLog(
            offsets_U1=np.arange(41) * 2,
            items_E=np.array([0, 1] * 36 + [0, 2] * 4),
            timestamps_E=np.zeros(80, np.int64),
            num_items=20,
        )
        fit = FIT.model_copy(update={"epochs": 40, "logit_adjustment": tau})
        model = fit_token_model(log, circle_codes(), LAYOUT, SHAPE, fit, seed=3, device=CPU)
        one, two = np.exp(token_log_probs(model)([History(items=np.array([0]), timestamps=np.array([0]))])[0, 1:3])
        return float(two / (one + two))

    # adjusted wholly, what is left of 36 to 4 is even
    assert share_of_rare(0.0) < 0.25 < 0.35 < share_of_rare(1.0) < 0.65


def _teacher(histories: list[History]) -> FloatArray:
    """Believe .9 in the item two further on, and the rest evenly."""
    prob_BN = np.full((len(histories), 20), 0.1 / 19)
    for row, history in enumerate(histories):
        prob_BN[row, (history.items[-1] + 2) % 20] = 0.9
    return np.log(prob_BN).astype(np.float32)


def test_soft_targets_when_made_then_they_stand_for_each_history_and_for_one_item_more() -> None:
    targets = soft_targets_of(_teacher, cycle_log(num_users=20), DistillationConfig(extended=2, kept=4), seed=0)
    assert [len(history.items) for history in targets.histories] == [9] * 20 + [10] * 40
    assert targets.item_RZ.shape == (60, 4)
    np.testing.assert_allclose(targets.prob_RZ.sum(1), 1.0, atol=0.01)
    best_R = targets.item_RZ[np.arange(60), targets.prob_RZ.argmax(1)]
    np.testing.assert_array_equal(best_R, [(history.items[-1] + 2) % 20 for history in targets.histories])


def test_distillation_when_the_teacher_contradicts_the_log_then_the_student_follows_the_teacher() -> None:
    log, config = cycle_log(), DistillationConfig(epochs=20, batch_positions=200, learning_rate=0.02, hard_weight=0.0)
    student = distil(tiny_model(), log, soft_targets_of(_teacher, log, config, seed=0), config, FIT, seed=1)
    ends = [log.history(user) for user in range(20)]
    wanted_B = [(history.items[-1] + 2) % 20 for history in ends]
    assert (token_log_probs(student)(ends).argmax(1) == wanted_B).mean() >= 0.9


def test_distillation_when_it_draws_windows_then_they_are_of_like_lengths_and_hold_the_positions_it_wants() -> None:
    lengths_U = np.repeat(np.arange(2, 8), 30)
    log = EventLog(
        offsets_U1=np.concatenate([[0], np.cumsum(lengths_U)]),
        items_E=np.arange(lengths_U.sum()) % 20,
        timestamps_E=np.arange(lengths_U.sum()),
        num_items=20,
    )
    config = DistillationConfig(hard_positions=40, kept=4)
    model = tiny_model()
    hard = NextItemLoss(model, log, FIT)
    loss = DistillationLoss(model, soft_targets_of(_teacher, log, config, seed=0), config, hard)
    rng, lengths_W = np.random.default_rng(0), loss.hard.windows.lengths_W
    drawn = [lengths_W[loss._windows(rng)] for _ in range(200)]
    assert all(40 <= lengths.sum() <= 40 + 2 * 7 for lengths in drawn)
    # a draw that wraps from the longest to the shortest is rare; all others span at most two lengths
    assert np.mean([lengths.max() - lengths.min() <= 1 for lengths in drawn]) > 0.9
    positions = np.bincount(np.concatenate(drawn), minlength=8) * np.arange(8)
    shares = positions[2:] / positions.sum()
    np.testing.assert_allclose(shares, np.arange(2, 8) / np.arange(2, 8).sum(), atol=0.06)


def test_dropped_events_when_most_go_then_the_last_one_stays() -> None:
    history = History(items=np.arange(50), timestamps=np.arange(50))
    left = drop_events(history, 0.9, np.random.default_rng(0))
    assert 0 < len(left.items) < 25
    assert left.items[-1] == 49
    assert (
        len(
            drop_events(
                History(items=history.items[:0], timestamps=history.items[:0]), 0.9, np.random.default_rng(0)
            ).items
        )
        == 0
    )


def test_soft_targets_when_rows_do_not_match_then_the_error_counts_them() -> None:
    with pytest.raises(ValueError, match="got 0 histories and 1 rows"):
        SoftTargets(histories=(), item_RZ=np.zeros((1, 2), np.int32), prob_RZ=np.zeros((1, 2), np.float16))
