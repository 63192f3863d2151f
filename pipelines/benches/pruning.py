"""Bench pruning: what a generator loses and saves when it trains on a part of the log, with and without a teacher.

The teacher is a run's own pre-trained generator. Every student is of the run's shape and settings, starts from the same
weights and is ranked by its item head on the same validation users, seen items removed.

Axes: U user.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from pipelines.benches.measure import Line
from pipelines.benches.training_world import TrainingWorld
from pipelines.recipe import load_recipe
from pipelines.stages.pretrain import validation_sample
from pipelines.stages.pruning import load_teacher
from recsys.codes.catalogue import Catalogue
from recsys.core.arrays import FloatArray
from recsys.core.device import pick_device
from recsys.core.telemetry import LOG
from recsys.data.prepare import load_prepared
from recsys.data.splits import Questions
from recsys.model.calibrate import item_head_ndcg
from recsys.model.config import PruningConfig
from recsys.model.difficulty import difficulties
from recsys.model.fit import pretrain
from recsys.model.generator import Generator
from recsys.model.pruning import plan_pruning
from recsys.model.training_objective import TrainingObjective

SHARES = (0.1, 0.25, 0.5)
PREFERENCES = ("random", "hard", "easy")
DISTILLATION = 0.5
_WHOLE = "the whole log"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all students share: the log and their start, the teacher, whom it finds difficult, and who is ranked for.

    Shape:
        difficulty_U: (users,).
    """

    world: TrainingWorld
    teacher: Generator
    difficulty_U: FloatArray
    asked: Questions


def bench_pruning(run: Path) -> list[Line]:
    """Return NDCG@10 and training seconds of every share, choice of users and teaching, beside the whole log."""
    setting = _setting(run)
    whole, whole_seconds = _student(setting, PruningConfig())
    tried = [PruningConfig(distillation=DISTILLATION, teacher=str(run))]
    tried += [
        PruningConfig(keep=keep, prefer=prefer, distillation=distillation, teacher=str(run))
        for keep in SHARES
        for prefer in PREFERENCES
        for distillation in (0.0, DISTILLATION)
    ]
    lines = [Line(what=_WHOLE, ours=whole, unit="NDCG@10")]
    for config in tried:
        ndcg, seconds = _student(setting, config)
        what = f"{config.keep:.0%} of users, {config.prefer}" + (", taught" if config.distillation else "")
        ratio = whole_seconds / seconds
        lines.append(Line(what=what, ours=ndcg, peer=whole, peer_name=_WHOLE, unit="NDCG@10"))
        lines.append(
            Line(what=f"{what}, training", ours=seconds, peer=whole_seconds, peer_name=_WHOLE, ratio=ratio, unit="s")
        )
    return lines


def _setting(run: Path) -> Setting:
    recipe, world = load_recipe(str(run / "recipe.toml")), TrainingWorld.of_run(run)
    teacher = load_teacher(run, Catalogue.load(run / "catalog"), pick_device(recipe.device))
    objective = TrainingObjective(teacher, world.log, world.category_N, world.fit, seed=recipe.seed)
    return Setting(
        world=world,
        teacher=teacher,
        difficulty_U=difficulties(objective),
        asked=validation_sample(load_prepared(run / "data").log, recipe.seed),
    )


def _student(setting: Setting, config: PruningConfig) -> tuple[float, float]:
    """Return the best epoch's NDCG@10, and the seconds of training and validation."""
    everybody = config.keep == 1 and not config.distillation
    pruning = None if everybody else plan_pruning(config, setting.difficulty_U, setting.teacher, seed=0)
    began = time.perf_counter()
    teacher = setting.teacher
    trainer = setting.world.trainer(pruning=pruning, prior=teacher.head.prior(), device=teacher.device)
    pretrain(trainer, validate=lambda model: item_head_ndcg(model, setting.asked))
    seconds = time.perf_counter() - began
    LOG.info("pruning %s: ndcg@10 %.4f in %.1f s", config, trainer.training.best, seconds)
    return trainer.training.best, seconds
