"""Stage bundle: choose on validation between the models and how evidence is weighed, then pack for serving."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipelines.job import Job
from recsys.codes.catalogue import Catalogue
from recsys.core.device import Device, pick_device
from recsys.core.seeds import derive_seed
from recsys.core.telemetry import LOG
from recsys.data.events import EventLog
from recsys.data.prepare import load_prepared
from recsys.data.splits import Questions, questions, training_log
from recsys.decoding.config import DecoderConfig
from recsys.evaluation.leave_one_out import evaluate_recommender
from recsys.features.assemble import FeatureBuilder
from recsys.model.calibrate import discount_popularity, item_head_ndcg
from recsys.model.generator import Generator
from recsys.recommender.bundle import BundleParts, save_bundle
from recsys.recommender.consistency import observed_divergences
from recsys.recommender.evidence import head_of
from recsys.recommender.reasoning import ReasoningRecommender
from recsys.recommender.scorer import GeneratorScorer
from recsys.recommender.token_experts import HEAD
from recsys.recommender.token_ranker import TokenRanker
from recsys.recommender.weights import ValidationScores, choose_weights
from recsys.tokenizer.kinds import load_tokenizer


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One model with one weight of path evidence, and the validation figures of both."""

    model: str
    path_weight: float
    theta: float | None
    recall: float
    ndcg: float

    def to_json(self) -> dict[str, str | float | None]:
        """Return the candidate as the bundle's manifest keeps it."""
        return {
            "model": self.model,
            "path_weight": self.path_weight,
            "theta": self.theta,
            "recall@10": self.recall,
            "ndcg@10": self.ndcg,
        }


def select_and_bundle(job: Job) -> None:
    """Bundle the model and the weights with the best NDCG@10 on validation, seen items removed."""
    prepared = load_prepared(job.parent("data"))
    catalogue = Catalogue.load(job.parent("catalog"))
    seed = derive_seed(job.recipe.seed, "selection")
    queries = questions(prepared.log, "validation").sample(job.recipe.selection.max_users, seed=seed)
    folders = MODELS if job.recipe.alignment.steps else {"pre-trained": MODELS["pre-trained"]}
    device = pick_device(job.recipe.device)
    models = {name: Generator.load(job.parent(folder), device) for name, folder in folders.items()}
    tried: list[Candidate] = []
    for name, generator in models.items():
        scorer = GeneratorScorer(generator).keeping_states()
        theta = _theta(job, scorer, catalogue, queries)
        for path_weight in job.recipe.selection.path_weights:
            config = job.recipe.decoder.with_ranking(path_weight=path_weight).with_search(theta=theta)
            recall, ndcg = _accuracy(scorer, catalogue, config, queries)
            tried.append(Candidate(model=name, path_weight=path_weight, theta=theta, recall=recall, ndcg=ndcg))
        alone = job.recipe.decoder.with_ranking(item_head=False).with_search(finish_below=1, theta=theta)
        LOG.info("%s by paths alone: ndcg@10 %.4f", name, _accuracy(scorer, catalogue, alone, queries)[1])
    best = choose(tried, keep=job.recipe.selection.keep, margin=job.recipe.selection.margin)
    LOG.info("kept the %s model with path weight %s: ndcg@10 %.4f", best.model, best.path_weight, best.ndcg)
    if job.recipe.alignment.steps:
        _say_what_alignment_did(tried, best)
    if job.recipe.selection.popularity_discount:
        _discount_popularity(job, models[best.model], than=models["pre-trained"], log=prepared.log)
    tokens = _tokens(job.parent("tokens"), job.recipe.device)
    if tokens is not None and best.model == "aligned":
        tokens = reweighed(tokens, models[best.model], queries, steps=job.recipe.tokens.weight_steps)
    parts = BundleParts(
        generator=models[best.model],
        catalogue=catalogue,
        decoder=job.recipe.decoder.with_ranking(path_weight=best.path_weight).with_search(theta=best.theta),
        items=prepared.items,
        counts_N=training_log(prepared.log).counts_N,
        tokenizer=load_tokenizer(job.parent("tokenizer")),
        features=FeatureBuilder.load(job.parent("features")),
        probed=queries.histories,
        tokens=tokens,
    )
    save_bundle(job.out, parts, kept=best.to_json(), validation=[candidate.to_json() for candidate in tried])


def _discount_popularity(job: Job, generator: Generator, *, than: Generator, log: EventLog) -> None:
    """Discount popular items in a model's item head, which may rank a margin worse than another on validation."""
    seed = derive_seed(job.recipe.seed, "discount")
    queries = questions(log, "validation").sample(job.recipe.selection.discount_users, seed=seed)
    least = (1 - job.recipe.selection.discount_margin) * item_head_ndcg(than, queries)
    kept = discount_popularity(generator, queries, training_log(log).counts_N, least_ndcg=least)
    LOG.info("item head: logits lose %s times the log of an item's training events, ndcg@10 at least %.4f", kept, least)


def _tokens(folder: Path, device: Device) -> TokenRanker | None:
    """Return the run's token experts, None where it has none."""
    return TokenRanker.load(folder, device=device) if (folder / "choices.json").exists() else None


def reweighed(tokens: TokenRanker, generator: Generator, queries: Questions, *, steps: int) -> TokenRanker:
    """Return token experts whose evidence is weighed anew beside another item head than they were trained with.

    Weights are multiples of ``1 / steps``.

    Experts that neither searched nor ranked beside the old head go on without a weight: serving does not read them.
    """
    choices = tokens.choices
    used = {
        name for name in tokens.mixture.codebooks if choices.search_weights.get(name) or choices.rank_weights.get(name)
    }
    sources = {name: source for name, source in tokens.sources().items() if name in used}
    scored = ValidationScores.of(sources | {HEAD: head_of(GeneratorScorer(generator))}, queries)
    best = choose_weights(scored, steps=steps)
    rank_weights = dict.fromkeys(tokens.mixture.codebooks, 0.0) | best.weights
    return replace(tokens, choices=choices.model_copy(update={"rank_weights": rank_weights}))


def choose(tried: Sequence[Candidate], *, keep: str, margin: float) -> Candidate:
    """Return the better model's best choice, or that of the model to keep; the pre-trained one was tried first."""
    allowed = [row for row in tried if keep in ("better", row.model)] or tried  # steps = 0: no aligned model
    of_each = ([row for row in allowed if row.model == name] for name in MODELS)
    return simplest_of_the_best([simplest_of_the_best(rows, margin=margin) for rows in of_each if rows], margin=0.0)


def simplest_of_the_best(tried: Sequence[Candidate], *, margin: float) -> Candidate:
    """Return the best choice; what was tried later must beat by the margin what came before it, which is simpler."""
    best = tried[0]
    for row in tried[1:]:
        if row.ndcg > best.ndcg + margin:
            best = row
    return best


def _say_what_alignment_did(tried: Sequence[Candidate], kept: Candidate) -> None:
    """Log the move of validation NDCG@10, as a warning where it fell."""
    before, after = _best_of_each(tried)
    say = LOG.info if after >= before else LOG.warning
    say("alignment moved validation ndcg@10 from %.4f to %.4f; the %s model is kept", before, after, kept.model)


def _best_of_each(tried: Sequence[Candidate]) -> tuple[float, float]:
    """Return the best validation NDCG@10 of the pre-trained and of the aligned model."""
    before, after = (max(row.ndcg for row in tried if row.model == name) for name in MODELS)
    return before, after


MODELS = {"pre-trained": "calibrated", "aligned": "aligned"}


def _theta(job: Job, scorer: GeneratorScorer, catalogue: Catalogue, queries: Questions) -> float | None:
    if not job.recipe.decoder.search.corp:
        return None
    free = job.recipe.decoder.with_search(theta=None)
    seen = observed_divergences(ReasoningRecommender(scorer, catalogue, free), queries.histories[:500])
    return float(np.quantile(seen, job.recipe.selection.theta_quantile)) if len(seen) else None


def _accuracy(
    scorer: GeneratorScorer, catalogue: Catalogue, config: DecoderConfig, queries: Questions
) -> tuple[float, float]:
    """Return Recall@10 and NDCG@10, seen items removed."""
    recommender = ReasoningRecommender(scorer, catalogue, config, trace=False)
    row = evaluate_recommender(recommender, queries, num_items=len(catalogue.codes_NM), keep_seen=False, seed=0).row
    return row.accuracy["recall@10"].value, row.accuracy["ndcg@10"].value
