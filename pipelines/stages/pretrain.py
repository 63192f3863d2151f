"""Stage model: pre-train the generator."""

import numpy as np
import torch
from scipy.sparse import csr_array

from pipelines.job import Job
from pipelines.stages.pruning import pruning_for
from recsys.codes.catalogue import Catalogue
from recsys.core.artifacts import write_json
from recsys.core.device import pick_device
from recsys.core.seeds import derive_seed
from recsys.data.events import EventLog
from recsys.data.prepare import load_prepared
from recsys.data.splits import Questions, questions, training_log
from recsys.features.item_vectors import Features
from recsys.model.calibrate import item_head_ndcg
from recsys.model.config import GeneratorConfig
from recsys.model.cooccurrence_prior import CooccurrencePrior, likeness_table
from recsys.model.fit import Pretrainer, pretrain
from recsys.model.generator import Generator

VALIDATION_USERS = 4000
"""Drawn at random, enough to compare epochs; the report is of all users."""


def pretrain_model(job: Job) -> None:
    """Train on the training part, keep the epoch that is best on validation."""
    log = load_prepared(job.parent("data")).log
    training = training_log(log)
    features = Features.load(job.parent("features"))
    prior = (
        CooccurrencePrior.of(training, item_likeness(features))
        if job.recipe.model.cooccurrence
        else CooccurrencePrior(tables=())
    )
    catalogue = Catalogue.load(job.parent("catalog"))
    seed = derive_seed(job.recipe.seed, "model")
    torch.manual_seed(seed)
    generator = Generator(
        GeneratorConfig(
            num_items=len(catalogue.codes_NM),
            num_codebooks=catalogue.layout.num_codebooks,
            codebook_size=catalogue.layout.codebook_size,
            num_categories=catalogue.num_categories,
            shape=job.recipe.model.model_dump(),
            prior_pairs=[table_NN.nnz for table_NN in prior.tables],
        )
    )
    generator.head.set_prior(prior)
    generator.history.set_calendar(training.timestamps_E)
    generator.codes_NM.copy_(torch.from_numpy(catalogue.codes_NM))
    if job.recipe.model.behavioural_start and (behaviour_NV := features.blocks.get("behavioural")) is not None:
        generator.items.start_ids_from(torch.from_numpy(behaviour_NV))
    generator = generator.to(pick_device(job.recipe.device))
    queries = validation_sample(log, seed)
    fit, precision = job.recipe.fit, job.recipe.precision
    pruning = pruning_for(training, catalogue, fit, seed=seed, precision=precision, device=generator.device)
    trainer = Pretrainer(
        generator, training, catalogue.category_N, fit, seed=seed, precision=precision, pruning=pruning
    )
    epochs = pretrain(
        trainer,
        validate=lambda model: item_head_ndcg(model, queries),
        checkpoint=job.checkpoints / "checkpoint.pt",
    )
    generator.save(job.out)
    decisions = [] if trainer.controller is None else trainer.controller.decisions
    write_json(
        job.out / "training.json", {"epochs": epochs, "precision": [decision.to_json() for decision in decisions]}
    )


def validation_sample(log: EventLog, seed: int) -> Questions:
    """Return the users on whom epochs and the item head's numbers are chosen."""
    return questions(log, "validation").sample(VALIDATION_USERS, seed=derive_seed(seed, "validation"))


def item_likeness(features: Features) -> csr_array | None:
    """Return the table of items alike by all that is known of them beside behaviour, or None."""
    known = [block_NF for name, block_NF in features.blocks.items() if name != "behavioural"]
    return likeness_table(np.concatenate(known, axis=1)) if known else None
