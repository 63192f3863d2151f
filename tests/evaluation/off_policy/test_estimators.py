"""Off-policy estimators: by hand, against Open Bandit Pipeline's figures, and in worlds whose truth is known."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.core.arrays import Float64Array
from recsys.evaluation.off_policy import marginal, single, slates
from recsys.evaluation.off_policy.estimate import PolicyValue, effective_sample_size, half_width
from recsys.evaluation.off_policy.overlap import check_overlap
from recsys.evaluation.off_policy.plackett_luce import next_propensities, place_propensities, weights_of
from recsys.evaluation.off_policy.reward_model import fit_rewards
from recsys.evaluation.off_policy.simulator import BanditWorld, bandit_world, slate_world
from recsys.evaluation.off_policy.trials import single_estimates, slate_estimates, try_estimators

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "obp_reference.json").read_text())
OPEN_BANDIT = Path(__file__).parents[4] / "shared" / "data" / "open_bandit_sample" / "interactions.parquet"


def test_ips_when_worked_by_hand_then_value_interval_and_sizes_agree() -> None:
    # Rewards 1, 0, 1, 0 with weights 2, 1, 0, 1: terms 2, 0, 0, 0, mean .5; deviations 1.5, -.5, -.5, -.5.
    # Their squares sum to 3; variance of the mean 3 * 4/3 / 16 = .25; t(3) at .975 is 3.18245: half width 1.59122.
    estimate = single.ips(np.array([1.0, 0, 1, 0]), np.array([2.0, 1, 0, 1]))
    assert estimate.value == pytest.approx(0.5)
    assert (estimate.low, estimate.high) == pytest.approx((0.5 - 1.59122, 0.5 + 1.59122), abs=1e-5)
    assert estimate.effective_sample_size == pytest.approx(16 / 6)  # (2 + 1 + 0 + 1)^2 / (4 + 1 + 0 + 1)
    assert (estimate.requests, estimate.clipped_share, estimate.biased) == (4, 0.0, False)


def test_snips_when_worked_by_hand_then_is_the_weighted_mean() -> None:
    assert single.snips(np.array([1.0, 0, 1, 0]), np.array([2.0, 1, 0, 1])).value == pytest.approx(2 / 4)


def test_clipped_ips_when_a_weight_is_cut_then_says_so() -> None:
    estimate = single.clipped_ips(np.array([1.0, 1.0]), np.array([10.0, 1.0]), clip=4.0)
    assert (estimate.value, estimate.clipped_share, estimate.biased) == (2.5, 0.5, True)
    assert not single.clipped_ips(np.array([1.0, 1.0]), np.array([3.0, 1.0]), clip=4.0).biased


def test_half_width_when_requests_come_in_pairs_then_is_wider_than_if_independent() -> None:
    # Each pair is one and the same request twice: the interval must be that of 50 requests, not of 100.
    once = np.random.default_rng(0).normal(size=50)
    once -= once.mean()
    twice = np.repeat(once, 2)
    assert half_width(twice, np.repeat(np.arange(50), 2)) == pytest.approx(half_width(once))
    assert half_width(twice) < half_width(once)


def test_weights_when_a_propensity_is_impossible_then_refused() -> None:
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\], got 1 outside"):
        single.importance_weights(np.array([0.5, 0.5]), np.array([0.0, 0.5]))
    with pytest.raises(ValueError, match="at least one logged request"):
        single.ips(np.array([]), np.array([]))


def _single(known: dict[str, Any]) -> dict[str, PolicyValue]:
    rows = np.arange(len(known["rewards"]))
    items, rewards, limit = np.array(known["items"]), np.array(known["rewards"]), known["limit"]
    target, logging, predicted = (np.array(known[name]) for name in ("target", "logging", "predicted"))
    weights = single.importance_weights(target[rows, items], logging[rows, items])
    model: dict[str, Any] = {"predicted_B": predicted[rows, items], "expected_B": (target * predicted).sum(axis=1)}
    by_code = marginal.code_weights(target, logging, items_B=items, codes_NM=np.array(known["codes"])[:, None])
    found = [
        single.ips(rewards, weights),
        single.snips(rewards, weights),
        single.clipped_ips(rewards, weights, clip=limit),
        single.direct_method(model["expected_B"]),
        single.doubly_robust(rewards, weights, **model),
        single.self_normalised_doubly_robust(rewards, weights, **model),
        single.switch_doubly_robust(rewards, weights, **model, threshold=limit),
        single.replay_matching(rewards, target.argmax(axis=1) == items),
        marginal.mips(rewards, by_code),
    ]
    return {estimate.estimator: estimate for estimate in found}


def _slates(known: dict[str, Any]) -> dict[str, PolicyValue]:
    rewards = np.array(known["rewards"])
    slate, place, prefix = (np.array(known["weights"][name]) for name in ("slate", "place", "prefix"))
    found = [
        slates.standard_ips(rewards, slate[:, 0]),
        slates.independent_ips(rewards, place),
        slates.reward_interaction_ips(rewards, prefix),
        slates.self_normalised("standard ips", rewards, slate),
        slates.self_normalised("independent ips", rewards, place),
        slates.self_normalised("reward interaction ips", rewards, prefix),
        slates.cascade_doubly_robust(
            rewards, prefix, predicted_BS=np.array(known["predicted"]), expected_BS=np.array(known["expected"])
        ),
    ]
    return {estimate.estimator: estimate for estimate in found}


@pytest.mark.parametrize(("part", "ours"), [("single", _single), ("slates", _slates)])
def test_estimators_when_asked_as_obp_was_then_agree_to_a_millionth(
    part: str, ours: Callable[[dict[str, Any]], dict[str, PolicyValue]]
) -> None:
    found = ours(REFERENCE[part])
    assert set(found) == set(REFERENCE[part]["values"])
    for name, value in REFERENCE[part]["values"].items():
        assert found[name].value == pytest.approx(value, abs=1e-6), name


def test_plackett_luce_when_asked_as_obp_was_then_prefix_and_place_propensities_agree() -> None:
    known = REFERENCE["slates"]
    rng = np.random.default_rng(0)
    for scores, slate, prefix, place in zip(
        known["scores"], known["slates"], known["target"]["prefix"], known["target"]["place"], strict=True
    ):
        weights = weights_of(3 * np.array(scores), temperature=1.0)
        assert next_propensities(weights, np.array(slate)).cumprod() == pytest.approx(prefix, abs=1e-9)
        found = place_propensities(weights, np.array(slate), rng=rng)
        assert found.method == "exact"
        assert found.values_S == pytest.approx(place, abs=1e-9)


@pytest.mark.realdata
def test_estimators_when_asked_on_the_open_bandit_sample_then_agree_with_obp_and_overlap_is_judged() -> None:
    if not OPEN_BANDIT.exists():
        pytest.skip(f"{OPEN_BANDIT} is not part of this repository")
    import pyarrow.parquet as pq

    known = REFERENCE["open_bandit"]
    rows = pq.read_table(OPEN_BANDIT).to_pandas()
    rows = rows[(rows["policy"] == "bts") & (rows["campaign"] == "all")]
    rewards = rows["click"].to_numpy(np.float64)
    weights = single.importance_weights(np.full(len(rows), 1 / known["items"]), rows["propensity"].to_numpy())
    found = {
        "ips": single.ips(rewards, weights),
        "snips": single.snips(rewards, weights),
        "clipped ips": single.clipped_ips(rewards, weights, clip=known["limit"]),
    }
    for name, value in known["values"].items():
        assert found[name].value == pytest.approx(value, abs=1e-6), name
    assert len(rows) == known["requests"]


RUNS = 200
MORE_RUNS = 1000  # where a run is cheap: the standard error of a coverage is then .7 % instead of 1.5 %


@pytest.mark.slow
def test_intervals_when_the_truth_is_known_then_cover_it_in_93_to_97_of_100_runs() -> None:
    world, rng = bandit_world(seed=1), np.random.default_rng(2)
    trials = try_estimators(lambda r: single_estimates(world, 2000, r), truth=world.truth, runs=RUNS, rng=rng)
    for trial in trials:
        if trial.claims:
            assert 0.93 <= trial.coverage <= 0.97, trial
            assert abs(trial.bias) < 4 * trial.deviation / RUNS**0.5, trial
    assert [trial.estimator for trial in trials if not trial.claims] == ["direct method", "clipped ips", "switch"]


@pytest.mark.slow
@pytest.mark.parametrize("interaction", [1.0, 0.0])
def test_slate_intervals_when_the_truth_is_known_then_cover_it_unless_their_assumption_fails(
    interaction: float,
) -> None:
    world, rng = slate_world(interaction=interaction, seed=3), np.random.default_rng(4)
    trials = try_estimators(lambda r: slate_estimates(world, 2000, r), truth=world.truth, runs=MORE_RUNS, rng=rng)
    covered = {trial.estimator: trial.coverage for trial in trials}
    independent = covered.pop("independent ips") if interaction else 0.95
    assert all(0.93 <= share <= 0.97 for share in covered.values()), covered
    # items above change an item's reward, so weights by place alone miss the truth
    assert independent < 0.8 if interaction else independent == 0.95


@pytest.mark.slow
def test_matching_and_code_intervals_when_their_assumption_holds_then_cover_the_truth() -> None:
    # A uniform logger for replay matching; rewards that depend on an item's code alone for mips.
    rng = np.random.default_rng(7)
    codes = np.arange(12) % 4
    made = bandit_world(seed=8)
    chance = made.chance_XN[:, codes]
    uniform = np.full_like(made.logging_XN, 1 / 12)
    best = np.eye(12)[made.target_XN.argmax(axis=1)]
    matching = BanditWorld(chance_XN=chance, logging_XN=uniform, target_XN=best)
    by_code = BanditWorld(chance_XN=chance, logging_XN=made.logging_XN, target_XN=made.target_XN)
    runs: dict[str, list[bool]] = {"replay matching": [], "mips": []}
    for _ in range(MORE_RUNS):
        contexts, items, rewards = matching.log(2000, rng)
        one = single.replay_matching(rewards, best[contexts, items])
        runs["replay matching"].append(one.low <= matching.truth <= one.high)
        contexts, items, rewards = by_code.log(2000, rng)
        weights = marginal.code_weights(
            by_code.target_XN[contexts], by_code.logging_XN[contexts], items_B=items, codes_NM=codes[:, None]
        )
        one = marginal.mips(rewards, weights)
        runs["mips"].append(one.low <= by_code.truth <= one.high)
    assert all(0.93 <= np.mean(hits) <= 0.97 for hits in runs.values()), {k: np.mean(v) for k, v in runs.items()}


def _weights(world: BanditWorld, requests: int, rng: np.random.Generator) -> Float64Array:
    contexts, items, _ = world.log(requests, rng)
    return single.importance_weights(world.target_XN[contexts, items], world.logging_XN[contexts, items])


def test_overlap_when_policies_share_no_item_then_refused_in_all_runs() -> None:
    rng = np.random.default_rng(5)
    for seed in range(RUNS):
        verdict = check_overlap(_weights(bandit_world(overlap=False, seed=seed), 1000, rng))
        assert verdict.refusal.startswith("this log cannot decide this")
        assert verdict.missing_mass == pytest.approx(1.0)


def test_overlap_when_policies_are_alike_then_decides() -> None:
    verdict = check_overlap(_weights(bandit_world(sharpness=0.3, seed=0), 5000, np.random.default_rng(6)))
    assert verdict.decides
    assert verdict.effective_sample_size > 1000


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (np.r_[np.full(50, 1.0)], "effective sample size 50.0 of 50 requests, 100 are needed"),
        (np.r_[np.full(999, 0.8), 201.0], "one request carries 20% of all weight"),
        (np.full(1000, 0.6), "about 40% of what the target shows was never logged"),
    ],
)
def test_overlap_when_a_condition_fails_then_the_refusal_gives_the_number(weights: Float64Array, words: str) -> None:
    assert words in check_overlap(weights).refusal


def test_effective_sample_size_when_half_the_weights_are_zero_then_is_half() -> None:
    assert effective_sample_size(np.array([1.0, 1.0, 0.0, 0.0])) == 2.0


def test_reward_model_when_items_differ_then_predicts_shrunken_means_of_other_folds() -> None:
    # Without a context: (sum + ridge * mean) / (count + ridge). With 2 folds the other fold's rows decide.
    rewards, items = np.array([1.0, 1, 0, 0] * 50), np.array([0, 0, 1, 1] * 50)
    model = fit_rewards(rewards, items, num_items=3, ridge=10.0, folds=2, seed=0)
    predicted = model.all_items()
    assert model.at(items) == pytest.approx(predicted[np.arange(200), items])
    assert model.mean_over_items() == pytest.approx(predicted.mean(axis=1))
    fold = np.random.default_rng(0).permutation(200) % 2
    for row in (0, 1, 2, 3):
        others = fold != fold[row]
        mean = rewards[others].mean()
        count = (others & (items == 0)).sum()
        assert predicted[row, 0] == pytest.approx((count + 10 * mean) / (count + 10))
        assert predicted[row, 2] == pytest.approx(mean)


def test_code_weights_when_all_codebooks_tell_items_apart_then_are_the_plain_weights() -> None:
    rng = np.random.default_rng(0)
    target, logging = rng.dirichlet(np.ones(4), 20), rng.dirichlet(np.ones(4), 20)
    items = rng.integers(4, size=20)
    rows = np.arange(20)
    codes = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    plain = target[rows, items] / logging[rows, items]
    assert marginal.code_weights(target, logging, items_B=items, codes_NM=codes) == pytest.approx(plain)
    ones = marginal.code_weights(target, logging, items_B=items, codes_NM=codes[:, :0])
    assert ones == pytest.approx(np.ones(20))
