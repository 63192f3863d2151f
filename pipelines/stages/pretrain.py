"""Stage model: pre-train the generator."""

import torch

from pipelines.job import Job
from recsys.codes.catalogue import Catalogue
from recsys.core.artifacts import write_json
from recsys.core.device import pick_device
from recsys.core.seeds import derive_seed
from recsys.data.prepare import load_prepared
from recsys.data.splits import questions, training_log
from recsys.features.assemble import Features
from recsys.model.fit import Pretrainer, item_head_ndcg, pretrain
from recsys.model.generator import Generator, GeneratorConfig

VALIDATION_USERS = 3000
"""Enough to tell epochs apart; the report judges all users."""


def pretrain_model(job: Job) -> None:
    """Train on the training part, keep the epoch that is best on validation."""
    log = load_prepared(job.run / "data").log
    catalogue = Catalogue.load(job.run / "catalog")
    seed = derive_seed(job.recipe.seed, "model")
    torch.manual_seed(seed)
    generator = Generator(
        GeneratorConfig(
            num_items=len(catalogue.codes_NM),
            num_codebooks=catalogue.layout.num_codebooks,
            codebook_size=catalogue.layout.codebook_size,
            num_categories=catalogue.num_categories,
            shape=job.recipe.model.model_dump(),
        )
    )
    generator.codes_NM.copy_(torch.from_numpy(catalogue.codes_NM))
    if (behaviour_NV := Features.load(job.run / "features").blocks.get("behavioural")) is not None:
        generator.start_items_from(torch.from_numpy(behaviour_NV))
    generator = generator.to(pick_device(job.recipe.device))
    asked = questions(log, "validation")
    histories, targets_U = asked.histories[:VALIDATION_USERS], asked.targets_U[:VALIDATION_USERS]
    trainer = Pretrainer(generator, training_log(log), catalogue.category_N, job.recipe.fit, seed=seed)
    epochs = pretrain(
        trainer,
        validate=lambda model: item_head_ndcg(model, histories, targets_U),
        checkpoint=job.checkpoints / "checkpoint.pt",
    )
    generator.save(job.out)
    write_json(job.out / "training.json", {"epochs": epochs})
