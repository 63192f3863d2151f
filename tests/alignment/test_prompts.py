"""Prompts stay in the training log, and their prior scores come from other users."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.alignment.prompts import draw_prompts
from recsys.core.errors import DataError
from recsys.data.events import EventLog
from recsys.data.splits import training_log
from recsys.model.cooccurrence_prior import CooccurrencePrior, Fold
from tests.support.alignment_world import make_log


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


def test_draw_prompts_when_rarity_is_one_then_items_are_asked_for_alike() -> None:
    # Nine users go from item 0 to item 1, one from item 0 to item 2: positions 9 to 1, with rarity 1 shares 9/9 to 1/1.
    log = EventLog(
        offsets_U1=np.arange(11) * 2,
        items_E=np.array([0, 1] * 9 + [0, 2]),
        timestamps_E=np.arange(20),
        num_items=3,
    )

    def share(rarity):
        drawn = draw_prompts(log, count=4000, window=1, rng=np.random.default_rng(0), rarity=rarity)
        return (drawn.targets_BH[:, 0] == 2).mean()

    # the standard error of a share of a half among 4,000 is .008
    assert share(0.0) == pytest.approx(0.1, abs=0.04)
    assert share(1.0) == pytest.approx(0.5, abs=0.04)


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
