"""Data pruning in the stage model: the teacher, and how difficult each user is for it."""

from pathlib import Path

import numpy as np
import torch

from recsys.codes.catalogue import Catalogue
from recsys.core.artifacts import require
from recsys.core.device import Precision
from recsys.core.errors import ConfigError
from recsys.core.telemetry import LOG
from recsys.data.events import EventLog
from recsys.model.config import FitConfig
from recsys.model.difficulty import difficulties
from recsys.model.generator import Generator
from recsys.model.pruning import Pruning, plan_pruning
from recsys.model.training_objective import TrainingObjective


def pruning_for(
    training: EventLog,
    catalogue: Catalogue,
    config: FitConfig,
    *,
    seed: int,
    precision: Precision,
    device: torch.device,
) -> Pruning | None:
    """Return the pruning of a recipe's ``fit.pruning``, None where it has none.

    Raises:
        ConfigError: the teacher is of other items, or the catalogue so large that its softmax is sampled.
    """
    settings = config.pruning
    if settings.keep == 1 and not settings.distillation:
        return None
    if settings.distillation and training.num_items > config.sampled_above:
        raise ConfigError(
            f"fit.pruning.distillation must be 0 where the softmax is sampled, got {settings.distillation} and "
            f"{training.num_items:,} items; raise fit.sampled_above, or set it to 0"
        )
    teacher = load_teacher(Path(settings.teacher), catalogue, device) if settings.teacher else None
    difficulty_U = np.where(training.lengths_U > 0, 0.0, np.nan)
    if teacher is not None and settings.keep < 1 and settings.prefer != "random":
        objective = TrainingObjective(teacher, training, catalogue.category_N, config, seed=seed, precision=precision)
        difficulty_U = difficulties(objective)
    pruning = plan_pruning(settings, difficulty_U, teacher, seed=seed)
    LOG.info("pruning: %d of %d users are trained on", pruning.kept_U.sum(), (training.lengths_U > 0).sum())
    return pruning


def load_teacher(run: Path, catalogue: Catalogue, device: torch.device) -> Generator:
    """Return the generator of a run whose items are those of a catalogue, in the same order.

    Raises:
        ConfigError: they are not.
    """
    require(run / "model" / "config.json", remedy="give fit.pruning.teacher the folder of a trained run")
    theirs = Catalogue.load(run / "catalog").item_ids
    if list(theirs) != list(catalogue.item_ids):
        raise ConfigError(
            f"fit.pruning.teacher must be a run of the same items in the same order, got {run} with {len(theirs):,} "
            f"items for {len(catalogue.item_ids):,}; train it on this data set"
        )
    return Generator.load(run / "model", device)
