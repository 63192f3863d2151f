"""Stage experts: token models that are normalised over the catalogue, each with codebooks of its own."""

import time
from functools import partial
from pathlib import Path

from pipelines.job import Job
from pipelines.stages.pretrain import validation_sample
from pipelines.stages.tokenize import held_out_pairs
from recsys.codes.catalogue import Catalogue
from recsys.codes.layout import CodeLayout
from recsys.core.arrays import IntArray
from recsys.core.device import pick_device
from recsys.core.errors import ConfigError
from recsys.core.seeds import derive_seed
from recsys.data.prepare import load_prepared
from recsys.data.splits import Questions, training_log
from recsys.features.assemble import FeatureBuilder
from recsys.features.item_vectors import Features
from recsys.model.tokens.fit import fit_token_model
from recsys.model.tokens.mixture import TokenMixture, token_log_probs
from recsys.model.tokens.network import TokenModel
from recsys.recommender.token_config import ExpertConfig
from recsys.sequence.validation import mean_ndcg
from recsys.tokenizer.kinds import fit_tokenizer


def train_experts(job: Job) -> None:
    """Train every expert of the recipe on the training part, and save the epoch that is best on validation.

    Raises:
        ConfigError: the experts' codebooks are not of one size, so that they cannot stand side by side.
    """
    if not job.recipe.experts.trained:
        return
    _require_one_size(job)
    log = load_prepared(job.parent("data")).log
    queries = validation_sample(log, derive_seed(job.recipe.seed, "model"))
    for expert in job.recipe.experts.trained:
        began = time.perf_counter()
        seed = derive_seed(job.recipe.seed, "expert", expert.name)
        folder = job.out / expert.name
        folder.mkdir()
        codes_NM, layout = _codes(job, expert, folder, seed)
        model = fit_token_model(
            training_log(log),
            codes_NM,
            layout,
            job.recipe.experts.model,
            job.recipe.experts.fit,
            seed=seed,
            device=pick_device(job.recipe.device),
            validate=partial(expert_ndcg, queries=queries),
            checkpoint=job.checkpoints / f"{expert.name}.pt",
            precision=job.recipe.precision,
        )
        TokenMixture({expert.name: model}, [1.0]).save(folder / "model")
        job.timings[expert.name] = time.perf_counter() - began


def _require_one_size(job: Job) -> None:
    own = Catalogue.load(job.parent("catalog")).layout.codebook_size
    sizes = {
        expert.name: own if expert.tokenizer is None else expert.tokenizer.codebook_size
        for expert in job.recipe.experts.trained
    }
    if len(set(sizes.values())) > 1:
        raise ConfigError(
            f"experts must have codebooks of one size, got {sizes}; set tokenizer.codebook_size alike for all "
            "(an expert without a tokenizer has the run's)"
        )


def load_expert(folder: Path, name: str, job: Job) -> TokenModel:
    """Return one trained expert."""
    return TokenMixture.load(folder / name / "model", pick_device(job.recipe.device)).models()[0]


def expert_ndcg(model: TokenModel, queries: Questions) -> float:
    """Return NDCG@10 of one token model over the whole catalogue, seen items removed."""
    return mean_ndcg(token_log_probs(model), queries.histories, queries.targets_U)


def _codes(job: Job, expert: ExpertConfig, folder: Path, seed: int) -> tuple[IntArray, CodeLayout]:
    """Return an expert's codes, of the run's catalogue or of a tokenizer that is fitted and saved here."""
    catalogue = Catalogue.load(job.parent("catalog"))
    if expert.tokenizer is None:
        return catalogue.codes_NM, catalogue.layout
    vectors_NF = Features.load_vectors(job.parent("features"))
    device = str(pick_device(job.recipe.device))
    own_seed = derive_seed(seed, "tokenizer")
    pairs = held_out_pairs(job, expert.tokenizer, own_seed)
    tokenizer = fit_tokenizer(vectors_NF, expert.tokenizer, seed=own_seed, device=device, pairs=pairs)
    (folder / "tokenizer").mkdir()
    tokenizer.save(folder / "tokenizer")
    if expert.as_new:
        # as for items that come later, nothing is moved apart: items of like words share what is learned of codes
        as_new_NF = FeatureBuilder.load(job.parent("features")).as_new().vectors_NF
        codes_NM = tokenizer.encode(as_new_NF, resolve=False)
    else:
        codes_NM = tokenizer.encode(vectors_NF)
    return codes_NM, CodeLayout(num_codebooks=codes_NM.shape[1], codebook_size=expert.tokenizer.codebook_size)
