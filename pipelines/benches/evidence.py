"""Bench evidence: what each source of a run's ranking is worth, by leaving it out and by letting it rank alone.

Nothing is trained anew: the weights of the sources that stay are chosen on all validation users, as the run's own are,
and rank all test users over the whole catalogue, seen items removed. Students stay as distilled from all.

Axes: U user.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.benches.measure import Line
from recsys.core.errors import CallError
from recsys.core.ranking import ndcg_at
from recsys.core.seeds import rng_for
from recsys.core.telemetry import LOG, track
from recsys.data.prepare import load_prepared
from recsys.data.splits import questions
from recsys.evaluation.intervals import paired_difference
from recsys.evaluation.metrics import recall_at
from recsys.recommender.bundle import load_bundle
from recsys.recommender.head_parts import COOCCURRENCE, MEMBERS, head_parts
from recsys.recommender.weights import DEPTH, ValidationScores, choose_weights

ALL = "all sources"
SEED = 7


def bench_evidence(run: Path) -> list[Line]:
    """Return for every choice of sources NDCG@10 and Recall@10 of the test, and the loss beside all, with its interval.

    Raises:
        CallError: the run has no token experts.
    """
    bundle, log = load_bundle(run / "bundle", trace=False), load_prepared(run / "data").log
    if bundle.tokens is None:
        raise CallError("bench evidence must have a run with token experts, got one without; set experts.trained")
    sources = bundle.tokens.sources() | head_parts(bundle.generative.scorer.keeping_states())
    chosen_on = ValidationScores.of(sources, questions(log, "validation"))
    queries = ValidationScores.of(sources, questions(log, "test"))
    choices = choices_of(bundle.tokens.mixture.codebooks, list(sources))
    ranks = {}
    for name, names in track(choices.items(), what="choices of sources", total=len(choices)):
        weights = choose_weights(chosen_on, names).weights
        ranks[name] = queries.ranks(weights)
        LOG.info("bench evidence: %s: %s", name, weights)
    lines, whole_U = [], ndcg_at(ranks[ALL], DEPTH)
    for name, rank_U in ranks.items():
        ndcg_U = ndcg_at(rank_U, DEPTH)
        figures = {"N@10": float(ndcg_U.mean()), "R@10": float(recall_at(rank_U, DEPTH).mean())}
        difference = paired_difference(ndcg_U, whole_U, rng_for(SEED, "bench", "evidence", name))
        beside = zip(("beside all, N@10", "from", "to"), difference, strict=True)
        figures |= {} if name == ALL else dict(beside)
        lines += [Line(what=name, figure=figure, ours=value, unit="") for figure, value in figures.items()]
    return lines


def choices_of(owners: Mapping[str, str], sources: Sequence[str]) -> dict[str, list[str]]:
    """Return which sources stay, by what a row is called.

    Args:
        owners: the expert whose codebooks each token model reads, by the model's name; a student's is not its own.
        sources: the token models and the parts of the item head.
    """
    tokens = [name for name in sources if name in owners]
    head = [name for name in sources if name not in owners]
    experts = [name for name in tokens if owners[name] == name]
    left_out = {f"without {part}": [name for name in sources if name != part] for part in head}
    if len(experts) > 1:
        for expert in experts:
            kept = [name for name in sources if owners.get(name) != expert]
            left_out[f"without expert {expert} and its student"] = kept
    choices = {
        ALL: list(sources),
        **left_out,
        "without students": [name for name in sources if name not in tokens or name in experts],
        "without token experts": head,
        "members and co-occurrence": [name for name in head if name in (MEMBERS, COOCCURRENCE)],
        "token experts and students": tokens,
        "token experts": experts,
        **{f"{name} alone": [name] for name in sources},
    }
    return {name: names for name, names in choices.items() if names}
