"""The stages of an update that differ from those of a full training: each reads the same stage of the run before.

Axes: N item of the longer catalogue, I new item, X item without training events.
"""

import copy
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from pipelines.job import Job
from pipelines.stages.member import load_member, load_members
from pipelines.stages.pretrain import item_likeness, validation_sample
from recsys.baselines.sasrec import SASRec
from recsys.codes.catalogue import Catalogue
from recsys.core.arrays import FloatArray
from recsys.core.artifacts import write_json
from recsys.core.device import pick_device
from recsys.core.seeds import derive_seed
from recsys.core.telemetry import LOG
from recsys.data.append import append
from recsys.data.events import EventLog
from recsys.data.prepare import load_prepared, save_prepared
from recsys.data.splits import questions, training_log
from recsys.data.table import read_dataset
from recsys.features.assemble import FeatureBuilder
from recsys.features.item_vectors import Features
from recsys.model.calibrate import item_head_ndcg
from recsys.model.cooccurrence_prior import CooccurrencePrior
from recsys.model.fit import Pretrainer, pretrain
from recsys.model.generator import Generator
from recsys.recommender.growth import likeness, mean_weights, widened
from recsys.recommender.new_items import add_items
from recsys.recommender.token_ranker import TokenRanker
from recsys.sequence.id_training import go_on_training
from recsys.sequence.id_transformer import IdTransformer, IdTransformerConfig
from recsys.tokenizer.facets import facets
from recsys.tokenizer.kinds import load_tokenizer
from recsys.tokenizer.refresh import refresh

OF_DAY = "of_day.npy"
"""Which events of the longer log the day brought; a file of the data stage."""


def append_day(job: Job, previous: Path) -> None:
    """Put the day's events behind the log; users and items keep their rows."""
    day = append(load_prepared(previous / "data"), read_dataset(job.source), job.recipe.data)
    save_prepared(day.prepared, job.out)
    np.save(job.out / OF_DAY, day.of_day_E)
    LOG.info("data: %s", "  ".join(f"{name} {value}" for name, value in vars(day.counts).items() if value))


def extend_features(job: Job, previous: Path) -> None:
    """Keep the transform as it was fitted, and add the vectors of new items."""
    builder = FeatureBuilder.load(previous / "features")
    builder.extended(_new_items(job, len(builder.features.vectors_NF))).save(job.out)


def keep_tokenizer(job: Job, previous: Path) -> None:
    """Copy the tokenizer, for codes must go on meaning what the model learned; or refresh its codebooks, if configured.

    Codes of refreshed codebooks are numbered by the old ones (recsys/tokenizer/refresh.py).
    """
    if not job.recipe.update.refresh_codebooks:
        shutil.copytree(previous / "tokenizer", job.out, dirs_exist_ok=True)
        return
    vectors_NF = Features.load_vectors(job.parent("features"))
    seed = derive_seed(job.recipe.seed, "tokenizer", job.recipe.update.updates)
    refreshed = refresh(load_tokenizer(previous / "tokenizer"), vectors_NF, seed=seed)
    shares = {"codes_kept": refreshed.kept_M, "codes_kept_without_matching": refreshed.unmatched_M}
    LOG.info("tokenizer: codebooks refreshed; share of items that keep their code, by codebook: %s", shares)
    refreshed.tokenizer.save(job.out)
    write_json(job.out / "refresh.json", shares)


def extend_catalogue(job: Job, previous: Path) -> None:
    """Give new items codes and a category; what was there keeps its own, and codes keep their words."""
    old = Catalogue.load(previous / "catalog")
    new = add_items(
        _new_items(job, len(old.item_ids)),
        builder=FeatureBuilder.load(previous / "features"),
        tokenizer=load_tokenizer(job.parent("tokenizer")),
        catalogue=old,
    )
    catalogue = new.catalogue
    if job.recipe.update.refresh_codebooks:
        catalogue = _encoded_anew(job, catalogue)
    catalogue.save(job.out)
    write_json(job.out / "drift.json", new.drift.to_json())


def _encoded_anew(job: Job, catalogue: Catalogue) -> Catalogue:
    """Return the catalogue with the codes that a refreshed tokenizer gives all its items, and words for them."""
    tokenizer = load_tokenizer(job.parent("tokenizer"))
    codes_NM = tokenizer.encode(Features.load_vectors(job.parent("features")))
    words = facets(codes_NM, load_prepared(job.parent("data")).items, catalogue.layout.codebook_size)
    return replace(catalogue, codes_NM=codes_NM, facets=words)


def extend_tokens(job: Job, previous: Path) -> None:
    """Give the token experts the new items' codes; they rank these at once, and learn nothing."""
    if not (previous / "tokens" / "choices.json").exists():
        return
    ranker, catalogue = TokenRanker.load(previous / "tokens"), Catalogue.load(job.parent("catalog"))
    vectors_NF = FeatureBuilder.load(job.parent("features")).features.vectors_NF
    ranker.with_catalogue(vectors_NF[len(ranker.catalogue.item_ids) :], catalogue).save(job.out)


def go_on_with_member(job: Job, previous: Path) -> None:
    """Train the first ensemble member for a few passes more; new items start where the items most like them are."""
    if (found := load_member(previous / "member")) is not None:
        _go_on(job, *found, job.out, draws=())


def go_on_with_further_members(job: Job, previous: Path) -> None:
    """Train the other ensemble members for a few passes more, in the same way."""
    further = load_members(previous / "member", previous / "further_members")[1:]
    for number, (network, config) in enumerate(further, start=1):
        _go_on(job, network, config, job.out / str(number), draws=(str(number),))


def _go_on(job: Job, network: IdTransformer, config: IdTransformerConfig, out: Path, *, draws: tuple[str, ...]) -> None:
    log = load_prepared(job.parent("data")).log
    vectors_NF = FeatureBuilder.load(job.parent("features")).features.vectors_NF
    settings, wider = job.recipe.update, wider_member(network, config, vectors_NF)
    if settings.member_epochs:
        rate = config.learning_rate * settings.rate
        wider = go_on_training(
            wider.to(pick_device(job.recipe.device)),
            training_log(log),
            config.model_copy(update={"epochs": settings.member_epochs, "learning_rate": rate}),
            seed=derive_seed(job.recipe.seed, SASRec.name, *draws, settings.updates),
            name=SASRec.name,
            validation=questions(log, "validation"),
            precision=job.recipe.precision,
        )
    wider.save(out, config)


def wider_member(network: IdTransformer, config: IdTransformerConfig, vectors_NF: FloatArray) -> IdTransformer:
    """Return a network with a row more for each new item, the mean of the rows of the items most like it.

    Shape:
        vectors_NF: (items and new items, features).
    """
    old = len(network.items.weight)
    weights_IN = torch.from_numpy(mean_weights(likeness(vectors_NF[old:], vectors_NF[:old])))
    wider = IdTransformer(config, len(vectors_NF))
    state = network.state_dict()
    state["items.weight"] = torch.cat([state["items.weight"], weights_IN @ state["items.weight"]])
    wider.load_state_dict(state)
    return wider


def go_on_with_model(job: Job, previous: Path) -> None:
    """Train the generator for a short pass over the longer log; it stays as it was where that ranks no better."""
    log = load_prepared(job.parent("data")).log
    training, settings = training_log(log), job.recipe.update
    builder, catalogue = FeatureBuilder.load(job.parent("features")), Catalogue.load(job.parent("catalog"))
    seed = derive_seed(job.recipe.seed, "model", settings.updates)
    generator = _wider_generator(job, previous, builder, catalogue, training)
    fit = job.recipe.fit.model_copy(
        update={
            "epochs": settings.epochs,
            "final_epochs": settings.final_epochs,
            "learning_rate": job.recipe.fit.learning_rate * settings.rate,
        }
    )
    queries = validation_sample(log, derive_seed(job.recipe.seed, "model"))
    before, start = copy.deepcopy(generator.state_dict()), item_head_ndcg(generator, queries)
    torch.manual_seed(seed)
    trainer = Pretrainer(generator, training, catalogue.category_N, fit, seed=seed, precision=job.recipe.precision)
    checkpoint = job.checkpoints / "checkpoint.pt"
    epochs = pretrain(trainer, validate=lambda model: item_head_ndcg(model, queries), checkpoint=checkpoint)
    if max(epoch["validation"] for epoch in epochs) < start:
        LOG.info("model: ranks best as it was (ndcg@10 %.4f), and stays so", start)
        generator.load_state_dict(before)
    generator.save(job.out)
    write_json(job.out / "training.json", {"epochs": epochs, "start": start})


def _wider_generator(
    job: Job, previous: Path, builder: FeatureBuilder, catalogue: Catalogue, training: EventLog
) -> Generator:
    """Return the generator before, wider by the new items, with the prior counted anew."""
    generator = Generator.load(previous / "model", pick_device(job.recipe.device))
    vectors_NF, old = builder.features.vectors_NF, generator.config.num_items
    prior = None
    if job.recipe.model.cooccurrence:
        prior = CooccurrencePrior.of(training, item_likeness(builder.features))
    likeness_IN = likeness(vectors_NF[old:], vectors_NF[:old])
    return widened(generator, catalogue.codes_NM, likeness_IN, prior)


def _new_items(job: Job, old: int) -> pa.Table:
    """Return the items behind the first ``old`` ones."""
    return load_prepared(job.parent("data")).items.slice(old)
