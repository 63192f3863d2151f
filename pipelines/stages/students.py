"""Stage students: copies of experts learn the item probabilities of the item head and all experts together."""

import copy
import time
from collections.abc import Mapping
from functools import partial

from pipelines.job import Job
from pipelines.stages.experts import expert_ndcg, load_expert
from pipelines.stages.pretrain import validation_sample
from recsys.contracts import ItemScores
from recsys.core.device import pick_device
from recsys.core.seeds import derive_seed
from recsys.core.telemetry import LOG
from recsys.data.prepare import load_prepared
from recsys.data.splits import Questions, questions, training_log
from recsys.model.generator import Generator
from recsys.model.tokens.config import DistillationConfig
from recsys.model.tokens.distil import distil, soft_targets_of
from recsys.model.tokens.mixture import TokenMixture, token_log_probs
from recsys.model.tokens.network import TokenModel
from recsys.recommender.evidence import head_of, mixed_scores
from recsys.recommender.scorer import GeneratorScorer
from recsys.recommender.token_config import TokensConfig
from recsys.recommender.token_experts import HEAD
from recsys.recommender.weights import ValidationScores, choose_weights


def train_students(job: Job) -> None:
    """Distil a copy of every expert that the recipe distils, and save it as a mixture of one."""
    config, seed = job.recipe.tokens, tokens_seed(job)
    distilled = [expert for expert in job.recipe.experts.trained if expert.distilled]
    if not distilled or not config.distillation.epochs:
        return
    log = load_prepared(job.parent("data")).log
    training, began = training_log(log), time.perf_counter()
    models = {one.name: load_expert(job.parent("experts"), one.name, job) for one in job.recipe.experts.trained}
    teacher = _teacher(models, calibrated_head(job), weighing_users(job), config)
    targets = soft_targets_of(teacher, training, config.distillation, seed=seed)
    job.timings["teacher"] = time.perf_counter() - began
    validated = validation_sample(log, derive_seed(job.recipe.seed, "model"))
    for expert in distilled:
        began = time.perf_counter()
        student = distil(
            _new_student(models[expert.name], config.distillation, seed=derive_seed(seed, expert.name, "transitions")),
            training,
            targets,
            config.distillation,
            job.recipe.experts.fit,
            seed=derive_seed(seed, expert.name),
            validate=partial(expert_ndcg, queries=validated),
            checkpoint=job.checkpoints / f"{expert.student}.pt",
            precision=job.recipe.precision,
        )
        TokenMixture({expert.student: student}, [1.0]).save(job.out / expert.student / "model")
        job.timings[expert.student] = time.perf_counter() - began


def _new_student(expert: TokenModel, config: DistillationConfig, *, seed: int) -> TokenModel:
    """Return a copy of an expert; it gets untrained transitions where the expert has none and the recipe sets some."""
    if expert.config.transition_width or not config.transition_width:
        return copy.deepcopy(expert)
    return expert.with_transitions(config.transition_width, seed=seed)


def tokens_seed(job: Job) -> int:
    """Return the seed of all that is drawn for students, their mixture and its search."""
    return derive_seed(job.recipe.seed, "tokens")


def weighing_users(job: Job) -> Questions:
    """Return the validation users on whom sources are weighed, ``tokens.max_users`` of them."""
    queries = questions(load_prepared(job.parent("data")).log, "validation")
    return queries.sample(job.recipe.tokens.max_users, seed=tokens_seed(job))


def calibrated_head(job: Job) -> ItemScores:
    """Return the item head's log-probabilities."""
    return head_of(GeneratorScorer(Generator.load(job.parent("calibrated"), pick_device(job.recipe.device))))


def _teacher(
    models: Mapping[str, TokenModel], head: ItemScores, queries: Questions, config: TokensConfig
) -> ItemScores:
    """Return the log-probabilities that students learn: the head's, or those of its mixture with all experts."""
    if config.teacher == "head":
        return head
    sources = {name: token_log_probs(model) for name, model in models.items()} | {HEAD: head}
    best = choose_weights(ValidationScores.of(sources, queries), steps=config.weight_steps)
    LOG.info("students: the teacher is %s: validation ndcg@10 %.4f", best.weights, best.ndcg)
    return mixed_scores(sources, best.weights)
