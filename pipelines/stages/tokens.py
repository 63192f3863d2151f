"""Stage tokens: experts and their students are mixed, and their search and ranking are chosen on validation."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipelines.job import Job
from pipelines.stages.experts import load_expert
from pipelines.stages.students import calibrated_head, tokens_seed, weighing_users
from pipelines.stages.token_search import (
    choose_search,
    reliability,
    restrict_codebooks,
    save_reliability,
    with_faithfulness,
)
from recsys.codes.catalogue import Catalogue
from recsys.contracts import ItemScores
from recsys.core.telemetry import LOG
from recsys.data.events import EventLog
from recsys.data.prepare import load_prepared
from recsys.data.splits import training_log
from recsys.model.tokens.mixture import TokenMixture, token_log_probs
from recsys.recommender.token_config import ExpertConfig, TokensConfig
from recsys.recommender.token_experts import HEAD, NewItemChoice, TokenChoices
from recsys.recommender.token_ranker import TokenRanker
from recsys.recommender.weights import ChosenWeights, ValidationScores, choose_weights, sharpness
from recsys.tokenizer.facets import facets
from recsys.tokenizer.kinds import load_tokenizer

FAITHFULNESS_USERS = 200
"""On how many validation users it is measured whether paths name the facets that count."""

RELIABILITY_USERS = 2000
"""On how many validation users the mixture is sharpened, and its paths' probabilities are compared with what came."""


def rank_by_tokens(job: Job) -> None:
    """Mix experts and students, weigh all evidence, choose a search, and write all; nothing where there are none."""
    experts, config = job.recipe.experts.trained, job.recipe.tokens
    if not experts:
        return
    seed, queries, head = tokens_seed(job), weighing_users(job), calibrated_head(job)
    models = {expert.name: load_expert(job.parent("experts"), expert.name, job) for expert in experts}
    students = [expert.student for expert in experts if (job.parent("students") / expert.student).is_dir()]
    models |= {name: load_expert(job.parent("students"), name, job) for name in students}
    sources: dict[str, ItemScores] = {name: token_log_probs(model) for name, model in models.items()}
    scored = ValidationScores.of(sources | {HEAD: head}, queries)
    distilled = {expert.name for expert in experts if expert.student in students}
    mixed, ranked = served_weights(scored, distilled=distilled, config=config)
    figures = {f"{name} alone": scored.ndcg({name: 1.0}) for name in scored.names}
    figures |= {"tokens mixed": mixed.ndcg, "all evidence": ranked.ndcg}
    some = queries.sample(RELIABILITY_USERS, seed=seed)
    factor = sharpness(sources, mixed.weights, some)
    token_weights = {name: factor * weight for name, weight in mixed.weights.items()}
    codebooks = {expert.student: expert.name for expert in experts}
    mixture = TokenMixture(models, [token_weights[name] for name in models], codebooks)
    choices = TokenChoices(
        token_weights=token_weights,
        rank_weights=ranked.weights,
        paths_by=config.paths_by,
        sharpness=sharpness(sources | {HEAD: head}, ranked.weights, some),
        search=restrict_codebooks(config, mixture, ranked.weights),
        new_items=_new_items(experts, training_log(load_prepared(job.parent("data")).log), config),
        validation=figures,
    )
    tokenizers = {expert.name: load_tokenizer(_tokenizer_folder(job, expert)) for expert in experts}
    ranker = TokenRanker(mixture=mixture, catalogue=_catalogue(job, mixture), choices=choices, tokenizers=tokenizers)
    if config.pruning_users:
        ranker = choose_search(ranker, head, queries.sample(config.pruning_users, seed=seed), config)
    ranker = with_faithfulness(ranker, head, queries.sample(FAITHFULNESS_USERS, seed=seed), seed)
    for name, value in ranker.choices.validation.items():
        LOG.info("tokens: validation: %s %.4f", name, value)
    LOG.info("tokens: paths by %s, ranks by %s", ranker.choices.search_weights, ranker.choices.rank_weights)
    ranker.save(job.out)
    save_reliability(reliability(ranker, head, some), job.out, users=len(some.targets_U))


def _new_items(experts: Sequence[ExpertConfig], training: EventLog, config: TokensConfig) -> NewItemChoice | None:
    """Return the choice of the expert whose items have codes as new, for items without training events."""
    for expert in experts:
        if expert.as_new:
            absent = tuple(np.flatnonzero(training.counts_N == 0).tolist())
            return NewItemChoice(
                expert=expert.name,
                trained=training.num_items,
                without_events=absent,
                bonus=config.new_item_bonus,
                share=config.new_item_share,
                likeness=config.new_item_likeness,
            )
    return None


def served_weights(
    scored: ValidationScores, *, distilled: Collection[str], config: TokensConfig
) -> tuple[ChosenWeights, ChosenWeights]:
    """Return the weights of the token models alone and those of all evidence.

    Experts that have a student get none where both lose at most ``undistilled_margin`` of their NDCG@10 without them.

    Args:
        scored: the token models and the item head.
        distilled: the experts that have a student.
        config: how fine weights are, and the margin.
    """

    def both(models: list[str]) -> tuple[ChosenWeights, ChosenWeights]:
        alone, ranked = (
            choose_weights(scored, names, steps=config.weight_steps) for names in (models, [*models, HEAD])
        )
        return alone, ranked

    models = [name for name in scored.names if name != HEAD]
    found, kept = both(models), [name for name in models if name not in distilled]
    if config.undistilled_margin is None or kept == models:
        return found
    least, fewer = 1 - config.undistilled_margin, both(kept)
    if any(few.ndcg < least * every.ndcg for few, every in zip(fewer, found, strict=True)):
        return found
    LOG.info("tokens: %s have no weight: their students and the rest rank as well", sorted(distilled))
    unused = dict.fromkeys(distilled, 0.0)
    alone, ranked = (replace(few, weights=few.weights | unused) for few in fewer)
    return alone, ranked


def _catalogue(job: Job, mixture: TokenMixture) -> Catalogue:
    """Return the run's catalogue with the codebooks of all experts side by side, and words for their codes."""
    own, items = Catalogue.load(job.parent("catalog")), load_prepared(job.parent("data")).items
    codes_NM, layout = mixture.codes_NM(), mixture.layout
    return replace(own, codes_NM=codes_NM, layout=layout, facets=facets(codes_NM, items, layout.codebook_size))


def _tokenizer_folder(job: Job, expert: ExpertConfig) -> Path:
    """Return where the tokenizer lies that made an expert's codes."""
    return job.parent("tokenizer") if expert.tokenizer is None else job.parent("experts") / expert.name / "tokenizer"
