"""Bench cold: how token models rank items that were in no training event, and what the others pay for it.

A tenth of a run's items, drawn at random, loses all its training events. Features and a tokenizer are fitted on what
is left, and two token models are trained briefly: one on codes of behaviour and words, one on the codes that items have
as new (``as_new`` of :class:`recsys.recommender.token_config.ExpertConfig`). Queries are the test users whose next item
is one of the tenth, and a sample of the others. All is done for three draws: few popular items among the tenth decide
much.

``N of ten places`` are kept as ``tokens.new_item_share`` keeps them (:mod:`recsys.decoding.kept_places`): a cold item
is found where it is among the best N cold ones, another where it is among the best 10 - N others. ``by shared codes
too`` orders cold items as ``tokens.new_item_likeness`` does, at a weight of 16.

Axes: W draw, U user, B batch row, N item, I cold item, M codebook, E event, F feature, S slate position.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pipelines.benches.codes import FIT, MODEL
from pipelines.benches.measure import Line
from recsys.codes.layout import CodeLayout
from recsys.contracts import History, ItemScores
from recsys.core.arrays import BoolArray, FloatArray, IntArray
from recsys.core.ranking import MISS, ndcg_at
from recsys.core.seeds import derive_seed, rng_for
from recsys.core.telemetry import LOG, track
from recsys.data.events import EventLog, log_in_order
from recsys.data.prepare import Prepared, load_prepared
from recsys.data.splits import Questions, questions, training_log
from recsys.decoding.kept_places import kept_places
from recsys.evaluation.metrics import recall_at
from recsys.features.assemble import FeatureBuilder, FeatureConfig
from recsys.model.tokens.config import TokenModelConfig
from recsys.model.tokens.fit import fit_token_model
from recsys.model.tokens.mixture import token_log_probs
from recsys.recommender.evidence import Evidence, NewItemEvidence
from recsys.recommender.growth import likeness
from recsys.recommender.shared_codes import SharedCodes
from recsys.recommender.weights import ValidationScores, choose_weights
from recsys.sequence.validation import DEPTH, Ranks, pessimistic_ranks, ranks_of
from recsys.tokenizer.kinds import TokenizerConfig, fit_tokenizer

SEEDS, SHARE, USERS = (7, 8, 9), 0.1, 5_000
BONUSES = (0.0, 0.5, 1.0)
PLACES, LIKENESS = (1, 2, 3), 16.0
COLD = "cold items, R@10"
BEHAVIOUR, AS_NEW = "codes by behaviour and words", "codes as new"
MIXED = "both mixed, cold items by codes as new"
TOKENIZER = TokenizerConfig(num_codebooks=32, width=8, epochs=12)


@dataclass(frozen=True, kw_only=True, eq=False)
class Queries:
    """Test users by their next item: one without training events, or another one."""

    cold: Questions
    others: Questions


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to score and to rank."""

    score: ItemScores
    ranks: Ranks = pessimistic_ranks


Figures = dict[str, float]
"""What one way to score reaches with one draw."""


def bench_cold(
    run: Path,
    *,
    tokenizer: TokenizerConfig = TOKENIZER,
    model: TokenModelConfig = MODEL,
    share: float = SHARE,
    seeds: Sequence[int] = SEEDS,
) -> list[Line]:
    """Return for every way to score cold items their Recall@10, and Recall@10 and NDCG@10 of the others.

    Figures are means over seeds; the deviation is that of cold items' Recall@10.
    """
    torch.set_num_threads(1)
    prepared = load_prepared(run / "data")
    found_W = [_one_draw(prepared, tokenizer, model, share, seed) for seed in seeds]
    lines = []
    for name in found_W[0]:
        same_W = [found[name] for found in found_W]
        figures = {figure: float(np.mean([one[figure] for one in same_W])) for figure in same_W[0]}
        if len(seeds) > 1:
            figures["deviation over draws"] = float(np.std([one[COLD] for one in same_W], ddof=1))
        lines += [Line(what=name, figure=figure, ours=value, unit="") for figure, value in figures.items()]
    return lines


def _one_draw(
    prepared: Prepared, tokenizer: TokenizerConfig, model: TokenModelConfig, share: float, seed: int
) -> dict[str, Figures]:
    """Return the figures of every way to score, for cold items drawn by one seed."""
    cold_N = drawn_items(prepared.log.num_items, share, seed)
    training = without_items(training_log(prepared.log), cold_N)
    builder = FeatureBuilder.fit(prepared.items, training, FeatureConfig(), derive_seed(seed, "features"))
    fitted = fit_tokenizer(builder.features.vectors_NF, tokenizer, seed=derive_seed(seed, "tokenizer"))
    codes = {
        BEHAVIOUR: fitted.encode(builder.features.vectors_NF),
        AS_NEW: fitted.encode(builder.as_new().vectors_NF, resolve=False),
    }
    layout = CodeLayout(num_codebooks=tokenizer.num_codebooks, codebook_size=tokenizer.codebook_size)
    sources: dict[str, ItemScores] = {}
    for name, codes_NM in track(codes.items(), what="token models", total=len(codes)):
        own = derive_seed(seed, name)
        trained = fit_token_model(training, codes_NM, layout, model, FIT, seed=own, device=torch.device("cpu"))
        sources[name] = token_log_probs(trained)
    rest = _others(questions(prepared.log, "validation"), cold_N)
    weights = choose_weights(ValidationScores.of(sources, rest)).weights
    LOG.info("bench cold: weights on validation: %s", weights)
    queries, tried = queries_of(prepared.log, cold_N), ways(sources, weights, cold_N, codes[AS_NEW])
    tried["cosine with the last item's words"] = Way(score=_nearest(builder.as_new().vectors_NF))
    shown = track(tried.items(), what="ways to score", total=len(tried))
    return {name: _figures(way, queries) for name, way in shown}


def drawn_items(num_items: int, share: float, seed: int) -> BoolArray:
    """Return which items are cold: a share of them, drawn at random, (items,)."""
    cold_N = np.zeros(num_items, np.bool_)
    cold_N[rng_for(seed, "cold").permutation(num_items)[: round(share * num_items)]] = True
    return cold_N


def without_items(log: EventLog, left_out_N: BoolArray) -> EventLog:
    """Return a log without the events of some items; they stay in its catalogue."""
    user_E = np.repeat(np.arange(log.num_users), log.lengths_U)
    kept_E = ~left_out_N[log.items_E]
    return log_in_order(
        user_E[kept_E],
        np.asarray(log.items_E[kept_E]),
        np.asarray(log.timestamps_E[kept_E]),
        num_users=log.num_users,
        num_items=log.num_items,
    )


def queries_of(log: EventLog, cold_N: BoolArray) -> Queries:
    """Return the test users of cold items, and others, at most :data:`USERS` of each; histories lack cold items."""
    test = questions(log, "test")
    cold = test.take(np.flatnonzero(cold_N[test.targets_U])).sample(USERS, seed=SEEDS[0])
    return Queries(cold=_clean(cold, cold_N), others=_others(test, cold_N))


def ways(
    sources: Mapping[str, ItemScores], weights: Mapping[str, float], cold_N: BoolArray, codes_NM: IntArray
) -> dict[str, Way]:
    """Return the ways to score: each token model by itself, both mixed, and cold items by codes as new alone.

    The last of these compete by score and a bonus, or have places of their own.

    Shape:
        cold_N: (items,) which items are cold. codes_NM: (items, codebooks) codes as new.
    """
    cold_I = np.flatnonzero(cold_N)
    shared = SharedCodes(codes_NM, cold_I, weight=LIKENESS)
    found = {f"{name}, alone": Way(score=source) for name, source in sources.items()}
    found["both mixed"] = Way(score=Evidence(sources, search_weights=weights, rank_weights=weights).ranking)

    def as_new(bonus: float) -> ItemScores:
        new_items = NewItemEvidence(source=AS_NEW, item_I=cold_I, bonus=bonus)
        return Evidence(sources, search_weights=weights, rank_weights=weights, new_items=new_items).ranking

    found |= {f"{MIXED}, bonus {bonus:g}": Way(score=as_new(bonus)) for bonus in BONUSES}
    by_score = as_new(0.0)

    def by_shared_codes_too(histories: Sequence[History]) -> FloatArray:
        score_BN = by_score(histories)
        score_BN[:, cold_I] += shared(histories)
        return score_BN

    for order, score in (("", by_score), (" by shared codes too", by_shared_codes_too)):
        for number in PLACES:
            ranks = partial(kept_ranks, cold_N=cold_N, kept_S=kept_places(number / DEPTH, DEPTH))
            found[f"{MIXED}, {number} of ten places{order}"] = Way(score=score, ranks=ranks)
    return found


def kept_ranks(
    scores_BN: FloatArray,
    targets_B: IntArray,
    seen: tuple[IntArray, IntArray],
    /,
    *,
    cold_N: BoolArray,
    kept_S: BoolArray,
) -> IntArray:
    """Return each target's place where some places are kept for cold items, ties ranked against it; MISS behind them.

    There are as many items of both kinds as places.

    Shape:
        scores_BN: (histories, items); what is seen, and items of the other kind, are written into it.
        kept_S: (places,) which are kept.
    """
    scores_BN[cold_N != cold_N[targets_B][:, None]] = -np.inf
    own_B, rank_B = pessimistic_ranks(scores_BN, targets_B, seen), np.full(len(targets_B), MISS)
    for is_cold in (True, False):
        place_S = np.flatnonzero(kept_S == is_cold) + 1
        found = np.flatnonzero((cold_N[targets_B] == is_cold) & (recall_at(own_B, len(place_S)) > 0))
        rank_B[found] = place_S[own_B[found] - 1]
    return rank_B


def _others(queries: Questions, cold_N: BoolArray) -> Questions:
    """Return a sample of the users whose next item is not cold."""
    return _clean(queries.take(np.flatnonzero(~cold_N[queries.targets_U])).sample(USERS, seed=SEEDS[0]), cold_N)


def _clean(queries: Questions, cold_N: BoolArray) -> Questions:
    """Return the questions without cold items in their histories."""
    kept = [~cold_N[history.items] for history in queries.histories]
    histories = [
        History(items=history.items[keep], timestamps=history.timestamps[keep])
        for history, keep in zip(queries.histories, kept, strict=True)
    ]
    return replace(queries, histories=histories)


def _nearest(vectors_NF: FloatArray) -> ItemScores:
    """Return cosines with the last item of a history as scores, none below 0."""

    def score(histories: Sequence[History]) -> FloatArray:
        last_B = np.array([history.items[-1] if len(history.items) else -1 for history in histories])
        return np.where(last_B[:, None] < 0, np.float32(0), likeness(vectors_NF[last_B], vectors_NF))

    return score


def _figures(way: Way, queries: Queries) -> Figures:
    """Return one way's figures, seen items removed."""
    cold_U, other_U = (
        ranks_of(way.score, one.histories, one.targets_U, rank=way.ranks) for one in (queries.cold, queries.others)
    )
    return {
        COLD: float(recall_at(cold_U, DEPTH).mean()),
        "others, R@10": float(recall_at(other_U, DEPTH).mean()),
        "others, N@10": float(ndcg_at(other_U, DEPTH).mean()),
    }
