"""The rewards of a path, worked by hand."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.rewards.rollout import Rollout, spread
from recsys.rewards.rubric import CategoryReward, ConsistencyReward, PathReward, Rubric, StepReward

CODES_NM = np.array([[0, 0], [0, 1], [1, 1], [2, 2]])
CATEGORY_N = np.array([0, 0, 1, 2])


def rollout(tokens, targets, category=None, *, book=None, choice=None):
    rows = len(tokens)
    category = np.full((rows, 2, 3), 1 / 3) if category is None else np.array(category)
    return Rollout(
        book_RO=np.array([[0, 1]] * rows if book is None else book),
        choice_RO=np.array([[True, True]] * rows if choice is None else choice),
        tokens_RM=np.array(tokens),
        category_ROQ=category.astype(np.float32),
        target_items_RH=np.array(targets),
    )


def codewords():
    # The same orthonormal codewords in both codebooks: item and path match by the number of shared codes.
    return np.stack([np.eye(3), np.eye(3)]).astype(np.float32)


def test_step_reward_when_all_targets_exist_then_is_weighted_share():
    # Path (0, 1): item 1 shares 2 of 2, item 0 shares 1 of 2 (codebook 0), item 3 none.
    # w = .5: (1 * 1 + .5 * .5 + .25 * 0) / (1 + .5 + .25) = 1.25 / 1.75.
    reward = StepReward(codes_NM=CODES_NM, decay=0.5)
    assert reward(rollout([[0, 1]], [[1, 0, 3]])) == pytest.approx([1.25 / 1.75])


def test_step_reward_when_same_code_sits_in_another_codebook_then_does_not_count():
    # Path (1, 0) against item 1 = (0, 1): the code sets are equal, the tokens are not.
    assert StepReward(codes_NM=CODES_NM)(rollout([[1, 0]], [[1]])) == pytest.approx([0.0])


def test_step_reward_when_history_ends_then_uses_items_it_has():
    # Only t+1 exists; item 0 shares 1 of 2: .5, not .5 / 2.44.
    assert StepReward(codes_NM=CODES_NM)(rollout([[0, 1]], [[0, -1, -1]])) == pytest.approx([0.5])


def test_step_reward_when_a_step_was_forced_then_only_the_choice_counts():
    # Item 1 = (0, 1). The first path chooses codebook 1 with code 1 (right), then codebook 0 follows; the second
    # chooses codebook 0 with code 2 (wrong); the third had no choice at all.
    told = rollout(
        [[2, 1], [2, 1], [0, 1]],
        [[1], [1], [1]],
        book=[[1, 0], [0, 1], [0, 1]],
        choice=[[True, False], [True, False], [False, False]],
    )
    assert StepReward(codes_NM=CODES_NM)(told) == pytest.approx([1.0, 0.0, 0.0])


def test_category_reward_when_a_step_was_forced_then_only_the_choice_counts():
    # Predictions are categories 1 then 0; item 2 is of category 1: right where the first step alone was a choice.
    category = [[[0.1, 0.8, 0.1], [0.6, 0.2, 0.2]]] * 2
    told = rollout([[0, 0]] * 2, [[2], [2]], category, choice=[[True, False], [False, True]])
    assert CategoryReward(category_N=CATEGORY_N)(told) == pytest.approx([1.0, 0.0])


def test_category_reward_when_one_of_two_steps_is_right_then_is_half():
    # Predictions are categories 1 then 0. Item 2 is of category 1: one of two. Item 0 of 0: one of two.
    # Item 3 of category 2: none. w = .8: (.5 + .8 * .5 + .64 * 0) / 2.44 = .9 / 2.44.
    told = rollout([[0, 0]], [[2, 0, 3]], [[[0.1, 0.8, 0.1], [0.6, 0.2, 0.2]]])
    assert CategoryReward(category_N=CATEGORY_N)(told) == pytest.approx([0.9 / 2.44])


def test_consistency_reward_when_distributions_are_disjoint_equal_or_between_then_is_known():
    # Disjoint: JS = 1 bit -> 0. Equal: 0 -> 1. (1, 0, 0) and (.5, .5, 0): m = (.75, .25, 0),
    # JS = .5 * log2(1 / .75) + .5 * (.5 log2(.5 / .75) + .5 log2(.5 / .25)) = .311278.
    told = rollout(
        [[0, 0]] * 3,
        [[0]] * 3,
        [[[1, 0, 0], [0, 1, 0]], [[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]], [[1, 0, 0], [0.5, 0.5, 0]]],
    )
    assert ConsistencyReward()(told) == pytest.approx([0.0, 1.0, 1 - 0.311278], abs=1e-5)


def test_path_reward_when_target_is_in_top_n_then_is_one():
    # Path (1, 1) matches items 2 (2 codes), 1 (1 code), 0 and 3 (none): top 2 = {2, 1}.
    # w = .8, targets 1, 3, 2: (1 + 0 + .64) / 2.44.
    reward = PathReward(codewords(), CODES_NM, top_n=2)
    assert reward(rollout([[1, 1]], [[1, 3, 2]])) == pytest.approx([1.64 / 2.44])


def test_path_reward_when_history_ended_then_missing_item_is_no_hit():
    # faiss pads with -1 when it finds too few; the search length is cut to the catalogue: -1 never meets -1.
    reward = PathReward(codewords(), CODES_NM, top_n=100)
    assert reward(rollout([[1, 1]], [[-1, -1]])) == pytest.approx([0.0])


def test_path_reward_when_codebooks_do_not_fit_then_says_so():
    with pytest.raises(ValueError, match="codewords must be of the codes' 2 codebooks, got 1"):
        PathReward(codewords()[:1], CODES_NM)


def make_rubric(weights):
    rewards = [StepReward(codes_NM=CODES_NM), ConsistencyReward(), PathReward(codewords(), CODES_NM, top_n=1)]
    return Rubric(rewards, weights)


def test_rubric_when_called_then_returns_weighted_total_beside_parts():
    # Path (0, 1), target 1: step 1, path 1; uniform categories: consistency 1. 2 * 1 + 0 * 1 + .5 * 1 = 2.5.
    scores = make_rubric({"step": 2.0, "consistency": 0.0, "path": 0.5})(rollout([[0, 1]], [[1]]))
    assert scores.total_R == pytest.approx([2.5])
    assert {name: part[0] for name, part in scores.parts.items()} == pytest.approx(
        {"step": 1.0, "consistency": 1.0, "path": 1.0}
    )


def test_rubric_when_a_weight_is_missing_then_says_so():
    with pytest.raises(ValueError, match="weights must name each reward once"):
        make_rubric({"step": 1.0})


def test_rubric_when_pickled_then_scores_the_same():
    rubric = make_rubric({"step": 1.0, "consistency": 1.0, "path": 1.0})
    told = rollout([[0, 1], [2, 1]], [[1, 0], [3, -1]])
    again = pickle.loads(pickle.dumps(rubric))
    np.testing.assert_array_equal(again(told).total_R, rubric(told).total_R)


def test_rollout_when_rows_differ_then_says_so():
    with pytest.raises(ValueError, match="rows of a rollout"):
        rollout([[0, 1]], [[1], [2]])


@given(
    values=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=5),
    have=st.integers(1, 5),
    decay=st.floats(0.1, 1),
)
def test_spread_when_any_target_exists_then_stays_within_the_values(values, have, decay):
    have = min(have, len(values))
    targets = np.array([[0] * have + [-1] * (len(values) - have)])
    spread_value = spread(np.array([values], np.float32), targets, decay)[0]
    assert min(values[:have]) - 1e-6 <= spread_value <= max(values[:have]) + 1e-6
