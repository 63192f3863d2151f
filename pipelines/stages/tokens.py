"""Stage tokens: experts learn from a teacher, are mixed, and validation chooses how they search and rank."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from pipelines.job import Job
from pipelines.stages.experts import expert_ndcg, load_expert
from pipelines.stages.pretrain import validation_sample
from recsys.codes.catalogue import Catalogue
from recsys.contracts import ItemScores, requests_for
from recsys.core.device import pick_device
from recsys.core.seeds import derive_seed, rng_for
from recsys.core.telemetry import LOG
from recsys.data.prepare import load_prepared
from recsys.data.splits import Questions, training_log
from recsys.decoding.config import BeliefSearchConfig
from recsys.evaluation.leave_one_out import evaluate_recommender
from recsys.model.generator import Generator
from recsys.model.tokens.distil import ask_teacher, distil
from recsys.model.tokens.mixture import TokenMixture, token_log_probs
from recsys.model.tokens.network import TokenModel
from recsys.recommender.evidence import Evidence, Weighed, choose_weights
from recsys.recommender.faithfulness import facet_ablation
from recsys.recommender.scorer import GeneratorScorer
from recsys.recommender.token_config import HEAD, ExpertConfig, TokenChoices, TokensConfig
from recsys.recommender.token_ranker import TokenRanker
from recsys.recommender.token_recommender import TokenRecommender, observed_jumps
from recsys.tokenizer.facets import facets
from recsys.tokenizer.kinds import load_tokenizer

FAITHFULNESS_USERS = 200
"""On how many validation users it is measured whether paths name the facets that count."""


def rank_by_tokens(job: Job) -> None:
    """Distil, mix and weigh the experts, and write them with their catalogue; nothing where there are none."""
    experts, config = job.recipe.experts.trained, job.recipe.tokens
    if not experts:
        return
    prepared = load_prepared(job.parent("data"))
    log, seed = prepared.log, derive_seed(job.recipe.seed, "tokens")
    asked = validation_sample(log, derive_seed(job.recipe.seed, "model")).sample(config.max_users, seed=seed)
    head = head_log_probs(Generator.load(job.parent("calibrated"), pick_device(job.recipe.device)))
    models = {expert.name: load_expert(job.parent("experts"), expert.name, job) for expert in experts}
    if any(expert.distilled for expert in experts) and config.distillation.epochs:
        teacher = _teacher(models, head, asked, config)
        _distil(job, {expert.name: models[expert.name] for expert in experts if expert.distilled}, teacher, asked)
    sources: dict[str, ItemScores] = {name: token_log_probs(model) for name, model in models.items()}
    mixed, ranked = (
        choose_weights(named, asked, steps=config.weight_steps) for named in (sources, sources | {HEAD: head})
    )
    figures = {f"{name} alone": _alone(ranked, name) for name in (*sources, HEAD)}
    figures |= {"tokens mixed": mixed[0].ndcg, "all evidence": ranked[0].ndcg}
    mixture = TokenMixture(models, [mixed[0].weights[name] for name in models])
    own = Catalogue.load(job.parent("catalog"))
    catalogue = Catalogue(
        item_ids=own.item_ids,
        codes_NM=mixture.codes_NM(),
        category_N=own.category_N,
        num_categories=own.num_categories,
        layout=mixture.layout,
        facets=facets(mixture.codes_NM(), prepared.items, mixture.layout.codebook_size),
    )
    choices = TokenChoices(belief=mixed[0].weights, rank=ranked[0].weights, search=config.search, validation=figures)
    tokenizers = {expert.name: load_tokenizer(_tokenizer_folder(job, expert)) for expert in experts}
    ranker = TokenRanker(mixture=mixture, catalogue=catalogue, choices=choices, tokenizers=tokenizers)
    if config.corp_users:
        ranker = choose_pruning(ranker, head, asked.sample(config.corp_users, seed=seed), config)
    ranker = _with_faithfulness(ranker, asked.sample(FAITHFULNESS_USERS, seed=seed), seed)
    for name, value in ranker.choices.validation.items():
        LOG.info("tokens: validation: %s %.4f", name, value)
    LOG.info("tokens: paths by %s, ranks by %s", ranker.choices.belief, ranker.choices.rank)
    ranker.save(job.out)


def _tokenizer_folder(job: Job, expert: ExpertConfig) -> Path:
    """Return where the tokenizer lies that made an expert's codes."""
    return job.parent("tokenizer") if expert.tokenizer is None else job.parent("experts") / expert.name / "tokenizer"


def head_log_probs(generator: Generator) -> ItemScores:
    """Return the item head's log-probabilities, its members and prior included, as a function of histories."""
    scorer = GeneratorScorer(generator)
    return lambda histories: scorer.score_items(scorer.encode(histories))


def _teacher(models: dict[str, TokenModel], head: ItemScores, asked: Questions, config: TokensConfig) -> ItemScores:
    """Return the log-probabilities that distilled experts learn: the head's, or those of all that has learned apart."""
    if config.teacher == "head":
        return head
    # what is distilled goes on learning in place: the teacher is made of copies
    sources = {name: token_log_probs(copy.deepcopy(model)) for name, model in models.items()} | {HEAD: head}
    best = choose_weights(sources, asked, steps=config.weight_steps)[0]
    LOG.info("tokens: the teacher is %s: validation ndcg@10 %.4f", best.weights, best.ndcg)
    evidence = Evidence(sources, belief=best.weights, rank=best.weights)
    return lambda histories: evidence.of(histories)[1]


def _distil(job: Job, students: dict[str, TokenModel], teacher: ItemScores, asked: Questions) -> None:
    """Train experts further on the teacher's beliefs, in place."""
    config, seed = job.recipe.tokens.distillation, derive_seed(job.recipe.seed, "tokens")
    training = training_log(load_prepared(job.parent("data")).log)
    beliefs = ask_teacher(teacher, training, config, seed=seed)
    for name, model in students.items():
        distil(
            model,
            training,
            beliefs,
            config,
            job.recipe.experts.fit,
            seed=derive_seed(seed, name),
            validate=partial(expert_ndcg, asked=asked),
            checkpoint=job.checkpoints / f"{name}.pt",
            precision=job.recipe.precision,
        )


def _alone(tried: Sequence[Weighed], name: str) -> float:
    """Return the figure of one source with all the weight."""
    return next(weighed.ndcg for weighed in tried if weighed.weights[name] == 1)


def choose_pruning(ranker: TokenRanker, head: ItemScores, asked: Questions, config: TokensConfig) -> TokenRanker:
    """Return the ranker with CORP where it ranks better on validation by the margin, else without.

    Both are tried on what paths reach, ranked by all evidence; the figures of pure paths are kept beside them.
    """
    off = config.search.model_copy(update={"corp": False, "theta": None})
    pure = _with_search(ranker, off).recommenders(head)[1]
    jumps = observed_jumps(pure, asked.histories)
    theta = float(np.quantile(jumps, config.theta_quantile)) if len(jumps) else None
    on = config.search.model_copy(update={"corp": True, "theta": theta})
    figures: dict[str, float] = {}
    for label, search in (("CORP off", off), ("CORP on", on)):
        _, paths, served, _ = _with_search(ranker, search).recommenders(head)
        figures[f"{label}: tokens by paths"] = _ndcg(paths, asked)
        figures[f"{label}: all evidence on paths"] = _ndcg(served, asked)
    pays = figures["CORP on: all evidence on paths"] > figures["CORP off: all evidence on paths"] + config.corp_margin
    chosen = _with_search(ranker, on if pays else off)
    validation = ranker.choices.validation | figures
    choices = chosen.choices.model_copy(update={"validation": validation})
    return replace(ranker, choices=choices)


def _with_faithfulness(ranker: TokenRanker, asked: Questions, seed: int) -> TokenRanker:
    """Return the ranker with a note of how far first items fall without the facets of their paths."""
    paths = ranker.recommenders(trace=True)[1]
    slates = paths.recommend(requests_for(asked.histories, n=1))
    found = facet_ablation(ranker.mixture, asked.histories, slates, rng_for(seed, "faithfulness"))
    notes = {"fall without the path's facets": found.path, "fall without random facets": found.random}
    validation = ranker.choices.validation | notes
    return replace(ranker, choices=ranker.choices.model_copy(update={"validation": validation}))


def _with_search(ranker: TokenRanker, search: BeliefSearchConfig) -> TokenRanker:
    return replace(ranker, choices=ranker.choices.model_copy(update={"search": search}))


def _ndcg(recommender: TokenRecommender, asked: Questions) -> float:
    evaluated = evaluate_recommender(recommender, asked, num_items=recommender.index.num_items, keep_seen=False, seed=0)
    return evaluated.row.accuracy["ndcg@10"].value
