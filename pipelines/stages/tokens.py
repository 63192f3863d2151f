"""Stage tokens: copies of experts learn from a teacher, all are mixed, and validation says how they search and rank."""

import copy
import time
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path

from pipelines.job import Job
from pipelines.stages.experts import expert_ndcg, load_expert
from pipelines.stages.pretrain import validation_sample
from pipelines.stages.token_search import (
    choose_pruning,
    reliability,
    save_reliability,
    with_faithfulness,
    with_heard_codebooks,
)
from recsys.codes.catalogue import Catalogue
from recsys.contracts import ItemScores
from recsys.core.device import pick_device
from recsys.core.seeds import derive_seed
from recsys.core.telemetry import LOG
from recsys.data.prepare import load_prepared
from recsys.data.splits import Questions, questions, training_log
from recsys.model.generator import Generator
from recsys.model.tokens.distil import ask_teacher, distil
from recsys.model.tokens.mixture import TokenMixture, token_log_probs
from recsys.model.tokens.network import TokenModel
from recsys.recommender.evidence import head_of, mixed_scores
from recsys.recommender.scorer import GeneratorScorer
from recsys.recommender.token_config import ExpertConfig, TokensConfig
from recsys.recommender.token_experts import HEAD, TokenChoices
from recsys.recommender.token_ranker import TokenRanker
from recsys.recommender.weights import ChosenWeights, ValidationScores, choose_weights, sharpen
from recsys.tokenizer.facets import facets
from recsys.tokenizer.kinds import load_tokenizer

FAITHFULNESS_USERS = 200
"""On how many validation users it is measured whether paths name the facets that count."""

RELIABILITY_USERS = 2000
"""On how many validation users the mixture is sharpened, and its paths' probabilities are compared with what came."""


def rank_by_tokens(job: Job) -> None:
    """Distil copies of experts, mix and weigh all, and write them with their catalogue; nothing where there are none.

    Weights are chosen on ``tokens.max_users`` validation users, epochs of students on as many as those of experts.
    """
    experts, config = job.recipe.experts.trained, job.recipe.tokens
    if not experts:
        return
    prepared = load_prepared(job.parent("data"))
    seed = derive_seed(job.recipe.seed, "tokens")
    asked = questions(prepared.log, "validation").sample(config.max_users, seed=seed)
    head = head_of(GeneratorScorer(Generator.load(job.parent("calibrated"), pick_device(job.recipe.device))))
    models = {expert.name: load_expert(job.parent("experts"), expert.name, job) for expert in experts}
    models |= _students(job, models, head, asked)
    sources: dict[str, ItemScores] = {name: token_log_probs(model) for name, model in models.items()}
    scored = ValidationScores.of(sources | {HEAD: head}, asked)
    mixed, ranked = served_weights(scored, taught={one.name for one in experts if one.student in models}, config=config)
    figures = {f"{name} alone": scored.ndcg({name: 1.0}) for name in scored.names}
    figures |= {"tokens mixed": mixed.ndcg, "all evidence": ranked.ndcg}
    sharpened = sharpen(sources, mixed.weights, asked.sample(RELIABILITY_USERS, seed=seed))
    codebooks = {expert.student: expert.name for expert in experts}
    mixture = TokenMixture(models, [sharpened[name] for name in models], codebooks)
    own = Catalogue.load(job.parent("catalog"))
    catalogue = Catalogue(
        item_ids=own.item_ids,
        codes_NM=mixture.codes_NM(),
        category_N=own.category_N,
        num_categories=own.num_categories,
        layout=mixture.layout,
        facets=facets(mixture.codes_NM(), prepared.items, mixture.layout.codebook_size),
        category_names=own.category_names,
    )
    search = with_heard_codebooks(config.search, mixture, config.least_voice)
    choices = TokenChoices(belief=sharpened, rank=ranked.weights, search=search, validation=figures)
    tokenizers = {expert.name: load_tokenizer(_tokenizer_folder(job, expert)) for expert in experts}
    ranker = TokenRanker(mixture=mixture, catalogue=catalogue, choices=choices, tokenizers=tokenizers)
    if config.pruning_users:
        ranker = choose_pruning(ranker, head, asked.sample(config.pruning_users, seed=seed), config)
    ranker = with_faithfulness(ranker, asked.sample(FAITHFULNESS_USERS, seed=seed), seed)
    for name, value in ranker.choices.validation.items():
        LOG.info("tokens: validation: %s %.4f", name, value)
    LOG.info("tokens: paths by %s, ranks by %s", ranker.choices.belief, ranker.choices.rank)
    ranker.save(job.out)
    believed = asked.sample(RELIABILITY_USERS, seed=seed)
    save_reliability(reliability(ranker, believed), job.out, users=len(believed.targets_U))


def served_weights(
    scored: ValidationScores, *, taught: Collection[str], config: TokensConfig
) -> tuple[ChosenWeights, ChosenWeights]:
    """Return the weights of the token models alone and those of all evidence.

    Experts that have a student get none where both lose at most ``untaught_margin`` of their NDCG@10 without them.

    Args:
        scored: the token models and the item head.
        taught: the experts that have a student.
        config: how fine weights are, and the margin.
    """

    def both(models: list[str]) -> tuple[ChosenWeights, ChosenWeights]:
        alone, ranked = (
            choose_weights(scored, names, steps=config.weight_steps) for names in (models, [*models, HEAD])
        )
        return alone, ranked

    models = [name for name in scored.names if name != HEAD]
    found, kept = both(models), [name for name in models if name not in taught]
    if config.untaught_margin is None or kept == models:
        return found
    least, fewer = 1 - config.untaught_margin, both(kept)
    if any(few.ndcg < least * every.ndcg for few, every in zip(fewer, found, strict=True)):
        return found
    LOG.info("tokens: %s have no weight: their students and the rest rank as well", sorted(taught))
    unused = dict.fromkeys(taught, 0.0)
    alone, ranked = (replace(few, weights=few.weights | unused) for few in fewer)
    return alone, ranked


def _tokenizer_folder(job: Job, expert: ExpertConfig) -> Path:
    """Return where the tokenizer lies that made an expert's codes."""
    return job.parent("tokenizer") if expert.tokenizer is None else job.parent("experts") / expert.name / "tokenizer"


def _students(job: Job, models: dict[str, TokenModel], head: ItemScores, asked: Questions) -> dict[str, TokenModel]:
    """Return copies of the experts that are to be distilled, trained on by a teacher's beliefs, by their names."""
    config, seed = job.recipe.tokens, derive_seed(job.recipe.seed, "tokens")
    taught = [expert for expert in job.recipe.experts.trained if expert.distilled]
    if not taught or not config.distillation.epochs:
        return {}
    log = load_prepared(job.parent("data")).log
    training, began = training_log(log), time.perf_counter()
    teacher = _teacher({name: token_log_probs(model) for name, model in models.items()}, head, asked, config)
    beliefs = ask_teacher(teacher, training, config.distillation, seed=seed)
    job.timings["teacher"] = time.perf_counter() - began
    validated = validation_sample(log, derive_seed(job.recipe.seed, "model"))
    students: dict[str, TokenModel] = {}
    for expert in taught:
        began = time.perf_counter()
        students[expert.student] = distil(
            copy.deepcopy(models[expert.name]),
            training,
            beliefs,
            config.distillation,
            job.recipe.experts.fit,
            seed=derive_seed(seed, expert.name),
            validate=partial(expert_ndcg, asked=validated),
            checkpoint=job.checkpoints / f"{expert.student}.pt",
            precision=job.recipe.precision,
        )
        job.timings[expert.student] = time.perf_counter() - began
    return students


def _teacher(sources: dict[str, ItemScores], head: ItemScores, asked: Questions, config: TokensConfig) -> ItemScores:
    """Return the log-probabilities that students learn: the head's, or those of the mixture with all experts."""
    if config.teacher == "head":
        return head
    best = choose_weights(ValidationScores.of(sources | {HEAD: head}, asked), steps=config.weight_steps)
    LOG.info("tokens: the teacher is %s: validation ndcg@10 %.4f", best.weights, best.ndcg)
    return mixed_scores(sources | {HEAD: head}, best.weights)
