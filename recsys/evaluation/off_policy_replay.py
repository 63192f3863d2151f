"""What recommenders would have earned on logged requests: each ranks before the request, then every estimator.

Axes: B logged request, S place in the slate.
"""

from collections.abc import Sequence

import numpy as np

from recsys.contracts import History, Recommender, empty_history, requests_for
from recsys.core.arrays import Float64Array, IntArray
from recsys.core.telemetry import track
from recsys.data.events import EventLog
from recsys.evaluation.off_policy import single, slates
from recsys.evaluation.off_policy.estimate import PolicyValue, mean_estimate
from recsys.evaluation.off_policy.logged import EMPTY, LoggedRequests
from recsys.evaluation.off_policy.overlap import check_overlap
from recsys.evaluation.off_policy.reward_model import RewardModel, fit_rewards
from recsys.evaluation.replay_results import OffPolicyRow
from recsys.evaluation.results import Estimate

CLIP = 20.0
"""Weights above this are clipped, or left to the reward model."""
UNIFORM = "uniform over the catalogue"
LOGGED = "the logging policy itself"
NEEDS_NO_WEIGHTS = ("direct method", "on policy")
MOST_PER_CALL = 256


def off_policy_rows(
    recommenders: Sequence[Recommender], log: EventLog, logged: LoggedRequests, *, seed: int
) -> tuple[OffPolicyRow, ...]:
    """Return every estimate for every recommender, for a uniform policy, and the mean reward of the log itself.

    A recommender's policy shows its slate and nothing else. Slates of one item have the estimators of one item; longer
    ones those of slates, and those of one item for their first place, which a log overlaps with far more often.

    Args:
        recommenders: whose slates are evaluated.
        log: events in the run's numbers; a request's history is what its user did before it.
        logged: the requests.
        seed: decides the folds of the reward model.
    """
    single_place = logged.items_BS.shape[1] == 1
    first = logged.first_places
    model = _model(first, log.num_items, seed)
    values = mean_estimate(
        "on policy",
        logged.rewards_BS.sum(axis=1),
        weights_B=np.ones(len(logged)),
        groups_B=logged.groups_B,
    )
    rows = [_row(LOGGED, logged, values, "")]
    rows += _first_place(UNIFORM, first, None, model, num_items=log.num_items, prefix="" if single_place else "first: ")
    histories = _histories(log, logged)
    for recommender in recommenders:
        shown_BS = _shown(recommender, histories, places=logged.items_BS.shape[1])
        rows += _first_place(
            recommender.name,
            first,
            shown_BS[:, 0],
            model,
            num_items=log.num_items,
            prefix="" if single_place else "first: ",
        )
        if not single_place:
            rows += _whole_slates(recommender.name, logged, shown_BS)
    return tuple(rows)


def _model(first: LoggedRequests, num_items: int, seed: int) -> RewardModel:
    """Fit rewards of the first place; items that the catalogue lacks have a number of their own."""
    return fit_rewards(
        first.rewards_BS[:, 0], first.items_BS[:, 0], num_items=num_items + 1, groups_B=first.groups_B, seed=seed
    )


def _first_place(
    target: str,
    first: LoggedRequests,
    shown_B: IntArray | None,
    model: RewardModel,
    *,
    num_items: int,
    prefix: str,
) -> list[OffPolicyRow]:
    """Return the rows of one item per request for a policy that shows these items, or any item alike."""
    items_B, rewards_B, groups_B = first.items_BS[:, 0], first.rewards_BS[:, 0], first.groups_B
    if shown_B is None:
        target_B, expected_B = np.where(items_B < num_items, 1 / num_items, 0.0), model.mean_over_items()
    else:
        target_B = (shown_B == items_B).astype(np.float64)
        expected_B = model.at(np.where(shown_B == EMPTY, num_items, shown_B))
    weights_B = single.importance_weights(target_B, first.propensities_BS[:, 0])
    predicted_B = model.at(items_B)
    found = [
        single.ips(rewards_B, weights_B, groups_B=groups_B),
        single.snips(rewards_B, weights_B, groups_B=groups_B),
        single.clipped_ips(rewards_B, weights_B, clip=CLIP, groups_B=groups_B),
        single.direct_method(expected_B, groups_B=groups_B),
        single.doubly_robust(rewards_B, weights_B, predicted_B=predicted_B, expected_B=expected_B, groups_B=groups_B),
        single.switch_doubly_robust(
            rewards_B, weights_B, predicted_B=predicted_B, expected_B=expected_B, threshold=CLIP, groups_B=groups_B
        ),
    ]
    if shown_B is not None:
        found.append(single.replay_matching(rewards_B, target_B, groups_B=groups_B))
    refusal = check_overlap(weights_B, groups_B=groups_B).refusal
    return [_row(target, first, one, refusal, prefix=prefix) for one in found]


def _whole_slates(target: str, logged: LoggedRequests, shown_BS: IntArray) -> list[OffPolicyRow]:
    """Return the rows of slates for a policy that shows these slates."""
    same_BS = (shown_BS == logged.items_BS) | (logged.items_BS == EMPTY)
    weights_BS = same_BS.cumprod(axis=1) / logged.propensities_BS.cumprod(axis=1)
    rest_S = np.flip(np.flip(logged.rewards_BS.mean(axis=0)).cumsum())
    model_BS = np.broadcast_to(rest_S, weights_BS.shape)
    groups_B, rewards_BS = logged.groups_B, logged.rewards_BS
    found: list[tuple[PolicyValue, Float64Array]] = [
        (slates.standard_ips(rewards_BS, weights_BS[:, -1], groups_B=groups_B), weights_BS[:, -1]),
        (slates.reward_interaction_ips(rewards_BS, weights_BS, groups_B=groups_B), weights_BS[:, -1]),
        (
            slates.self_normalised("reward interaction ips", rewards_BS, weights_BS, groups_B=groups_B),
            weights_BS[:, -1],
        ),
        (
            slates.cascade_doubly_robust(
                rewards_BS, weights_BS, predicted_BS=model_BS, expected_BS=model_BS, groups_B=groups_B
            ),
            weights_BS[:, -1],
        ),
    ]
    return [_row(target, logged, one, check_overlap(weights_B, groups_B=groups_B).refusal) for one, weights_B in found]


def _row(target: str, logged: LoggedRequests, value: PolicyValue, refusal: str, *, prefix: str = "") -> OffPolicyRow:
    return OffPolicyRow(
        target=target,
        logging=logged.policy,
        estimator=prefix + value.estimator,
        estimate=Estimate(value=value.value, low=value.low, high=value.high),
        effective_sample_size=value.effective_sample_size,
        clipped_share=value.clipped_share,
        biased=value.biased,
        refusal="" if value.estimator in NEEDS_NO_WEIGHTS else refusal,
    )


def _histories(log: EventLog, logged: LoggedRequests) -> list[History]:
    """Return what each request's user did before it; unknown users have empty histories."""
    found = []
    for user, moment in zip(logged.users_B.tolist(), logged.times_B.tolist(), strict=True):
        if user == EMPTY:
            found.append(empty_history())
            continue
        whole = log.history(user)
        before = int(np.searchsorted(whole.timestamps, moment))
        known = whole.items[:before] < log.num_items
        found.append(History(items=whole.items[:before][known], timestamps=whole.timestamps[:before][known]))
    return found


def _shown(recommender: Recommender, histories: Sequence[History], *, places: int) -> IntArray:
    """Return the slate a recommender would have shown at each request, shape (requests, places)."""
    shown_BS = np.full((len(histories), places), EMPTY, np.int64)
    starts = range(0, len(histories), MOST_PER_CALL)
    for start in track(starts, what=f"off policy: {recommender.name}", total=len(starts)):
        requests = requests_for(histories[start : start + MOST_PER_CALL], n=places)
        for row, slate in enumerate(recommender.recommend(requests), start=start):
            shown_BS[row, : len(slate.items)] = slate.items
    return shown_BS
