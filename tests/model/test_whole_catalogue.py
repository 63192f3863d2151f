"""Users who have every item: nothing is left to choose, so they are passed over and no figure becomes NaN."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.alignment.prompts import draw_prompts
from recsys.contracts import History
from recsys.core.errors import DataError, TrainingError
from recsys.core.finite import require_finite
from recsys.data.splits import Questions
from recsys.sequence.training import TrainingConfig, train_best_epoch
from tests.support.cycle_world import log_of


@given(st.lists(st.lists(st.integers(0, 4), max_size=8), min_size=1, max_size=5))
def test_distinct_before_when_any_log_then_counts_the_users_own_items(histories: list[list[int]]) -> None:
    slow = [len(set(items[:place])) for items in histories for place in range(len(items))]
    assert log_of(histories, 5).distinct_before_E.tolist() == slow


def test_draw_prompts_when_a_history_holds_every_item_then_its_positions_are_passed_over() -> None:
    # the crawler has items 0 to 2 after three events: its later positions lead to nothing new
    log = log_of([[0, 1, 2, 0, 1, 2], [0, 1]], 3)
    prompts = draw_prompts(log, count=40, window=1, rng=np.random.default_rng(0))
    assert max(len(np.unique(history.items)) for history in prompts.histories) == 2
    with pytest.raises(DataError, match="who lacks an item, got none"):
        draw_prompts(log_of([[0, 0, 0]], 1), count=1, window=1, rng=np.random.default_rng(0))


def test_questions_when_a_user_has_every_item_then_the_history_lacks_none() -> None:
    histories = [History(items=np.array(items), timestamps=np.arange(len(items))) for items in ([0, 1, 2], [0, 1])]
    queries = Questions(users_U=np.array([4, 7]), histories=histories, targets_U=np.array([0, 2]))
    assert queries.lack_items(3).tolist() == [False, True]
    assert queries.lack_items(4).tolist() == [True, True]


def test_require_finite_when_a_loss_is_no_number_then_names_the_batch() -> None:
    require_finite({"item": 1.0}, "epoch 1")
    with pytest.raises(TrainingError, match=r"epoch 2, batch 3: a loss must be finite, got item nan, token 1\.5"):
        require_finite({"item": float("nan"), "token": 1.5}, "epoch 2, batch 3")


def test_train_best_epoch_when_a_loss_is_no_number_then_names_epoch_and_batch(tmp_path: Path) -> None:
    network = torch.nn.Linear(1, 1)
    with pytest.raises(TrainingError, match="sasrec, epoch 1 of 2, batch 1"):
        train_best_epoch(
            network,
            TrainingConfig(epochs=2),
            np.random.default_rng(0),
            lengths=np.array([3]),
            loss=lambda *_: network.weight.sum() * float("nan"),
            validate=None,
            name="sasrec",
            checkpoint=tmp_path / "state.pt",
        )
