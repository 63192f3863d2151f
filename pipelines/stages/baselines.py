"""Stage baselines: the rivals that a recipe names, from the same log."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from pipelines.job import Job
from pipelines.recipe import Rival
from pipelines.stages.member import load_member, load_members
from recsys.baselines.cooccurrence import Cooccurrence
from recsys.baselines.ensemble import Ensemble
from recsys.baselines.popularity import Popularity
from recsys.baselines.rpg import RPG, RPGConfig
from recsys.baselines.sasrec import SASRec, SASRecConfig
from recsys.baselines.tiger import TIGER, TIGERConfig
from recsys.contracts import Recommender
from recsys.core.arrays import FloatArray
from recsys.core.artifacts import require
from recsys.core.device import Device, pick_device
from recsys.core.seeds import derive_seed
from recsys.data.events import EventLog
from recsys.data.prepare import load_prepared
from recsys.data.splits import Questions, questions, training_log
from recsys.features.item_vectors import Features
from recsys.tokenizer.kinds import fit_tokenizer

Trained = TypeVar("Trained", SASRecConfig, RPGConfig, TIGERConfig)
"""Settings of a rival that is a network."""

LOADERS: Mapping[Rival, Callable[[Path], Recommender]] = {
    "popularity": Popularity.load,
    "cooccurrence": Cooccurrence.load,
    "sasrec": SASRec.load,
    "ensemble": Ensemble.load,
    "rpg": RPG.load,
    "tiger": TIGER.load,
}


TRAINED_BY: Mapping[str, str] = {SASRec.name: "member"}
"""The stage that trained a rival which this one has no timing of."""


def fit_baselines(job: Job) -> None:
    """Fit and save every rival that the recipe names, and keep how long each took."""
    log = load_prepared(job.parent("data")).log
    training, validation, config = training_log(log), questions(log, "validation"), job.recipe.baselines

    alone = _member_alone(job, training) if {SASRec.name, Ensemble.name} & set(config.fitted) else None

    def fit(name: Rival) -> Popularity | Cooccurrence | SASRec | Ensemble | RPG | TIGER:
        seed = derive_seed(job.recipe.seed, name)
        if name == "popularity":
            return Popularity.fit(training)
        if name == "cooccurrence":
            return Cooccurrence.fit(training, config.cooccurrence)
        if name == "sasrec":
            own = placed(config.sasrec or SASRecConfig(), job.recipe.device)
            return alone or SASRec.fit(training, own, seed=seed, validation=validation)
        if name == "ensemble":
            return _ensemble(job, training, alone, validation=validation, seed=seed)
        if name == "rpg":
            return _rpg(job, training, validation=validation, seed=seed)
        tiger = placed(config.tiger, job.recipe.device)
        return TIGER.fit(training, _tiger_vectors(job), tiger, seed=seed, validation=validation)

    for name in config.fitted:
        began = time.perf_counter()
        fit(name).save(job.out / name)
        if not (name == SASRec.name and alone):
            job.timings[name] = time.perf_counter() - began


def placed(config: Trained, device: Device) -> Trained:
    """Return a rival's settings with the recipe's device, where they leave it open."""
    return config.model_copy(update={"device": device}) if config.device == "auto" else config


def _ensemble(job: Job, training: EventLog, alone: SASRec | None, *, validation: Questions, seed: int) -> Ensemble:
    """Return the run's SASRec, one more by another seed (the run's, if it has two), and co-occurrence, mixed."""
    config = job.recipe.baselines
    own_seed = derive_seed(job.recipe.seed, SASRec.name)
    own = placed(config.sasrec or SASRecConfig(), job.recipe.device)
    first = alone or SASRec.fit(training, own, seed=own_seed, validation=validation)
    further = [] if alone is None else load_members(job.parent("member"), job.parent("further_members"))[1:]
    if further:
        second = SASRec.of(further[0][0], training, first.config)
    else:
        second = SASRec.fit(training, first.config, seed=seed, validation=validation)
    near = Cooccurrence.fit(training, config.cooccurrence)
    return Ensemble.of((first, second, near), config.ensemble, validation=validation, seed=seed)


def _rpg(job: Job, training: EventLog, *, validation: Questions, seed: int) -> RPG:
    """Return RPG on codes of its own tokenizer over the vectors that ours read."""
    config, vectors_NF = job.recipe.baselines, Features.load(job.parent("features")).vectors_NF
    device = str(pick_device(job.recipe.device))
    tokenizer = fit_tokenizer(vectors_NF, config.rpg_tokenizer, seed=derive_seed(seed, "tokenizer"), device=device)
    settings = placed(config.rpg, job.recipe.device)
    settings = settings.model_copy(update={"codebook_size": config.rpg_tokenizer.codebook_size})
    return RPG.fit(training, tokenizer.encode(vectors_NF), settings, seed=seed, validation=validation)


def load_baselines(folder: Path) -> list[Recommender]:
    """Load the rivals that the run fitted."""
    require(folder, remedy="train the run again to fit the rivals")
    return [load(folder / name) for name, load in LOADERS.items() if (folder / name).exists()]


def _tiger_vectors(job: Job) -> FloatArray:
    """Return the text block, or all vectors where the recipe sets them or items have no words."""
    features = Features.load(job.parent("features"))
    if job.recipe.baselines.tiger_vectors == "all":
        return features.vectors_NF
    return features.blocks.get("text", features.vectors_NF)


def _member_alone(job: Job, training: EventLog) -> SASRec | None:
    """Return the run's member as a rival; None where it has none, or the recipe has a SASRec of its own."""
    found = None if job.recipe.baselines.sasrec is not None else load_member(job.parent("member"))
    if found is None:
        return None
    network, config = found
    return SASRec.of(network, training, SASRecConfig(**config.model_dump(), device=job.recipe.device))
