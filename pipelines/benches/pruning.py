"""Bench pruning: what a generator loses and saves when it trains on a part of the log, with and without a teacher.

The teacher is a run's own pre-trained generator. Every student is of the run's shape and settings, starts from the same
weights and is ranked by its item head on the same validation users, seen items removed. The curve is written to
``reports/pruning.json`` of the run, where the report finds it.

Axes: U user.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pipelines.benches.measure import Line
from pipelines.benches.training_world import TrainingWorld
from pipelines.recipe import load_recipe
from pipelines.stages.pretrain import validation_sample
from pipelines.stages.pruning import load_teacher
from recsys.codes.catalogue import Catalogue
from recsys.core.arrays import FloatArray
from recsys.core.artifacts import write_json
from recsys.core.device import pick_device
from recsys.core.telemetry import LOG, track
from recsys.core.usage import measured
from recsys.data.prepare import load_prepared
from recsys.data.splits import Questions
from recsys.model.calibrate import item_head_ndcg
from recsys.model.config import PruningConfig
from recsys.model.difficulty import difficulties
from recsys.model.fit import pretrain
from recsys.model.generator import Generator
from recsys.model.pruning import plan_pruning
from recsys.model.training_objective import TrainingObjective

CURVE = Path("reports") / "pruning.json"
SHARES = (0.1, 0.25, 0.5)
PREFERENCES: tuple[Literal["hard", "easy", "random"], ...] = ("random", "hard", "easy")
DISTILLATION = 0.5
_WHOLE = "the whole log"


@dataclass(frozen=True, kw_only=True)
class Student:
    """One student: how it was trained, its NDCG@10 on validation, and the processor seconds of its training."""

    keep: float
    prefer: str
    taught: bool
    ndcg: float
    cpu_seconds: float

    @property
    def name(self) -> str:
        """How it was trained, in words."""
        return f"{self.keep:.0%} of users" + (f", {self.prefer}" if self.keep < 1 else "") + ", taught" * self.taught


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all students share: the log, the start, the teacher, each user's difficulty, and the validation users.

    Shape:
        difficulty_U: (users,).
    """

    world: TrainingWorld
    teacher: Generator
    difficulty_U: FloatArray
    queries: Questions


def bench_pruning(run: Path) -> list[Line]:
    """Return NDCG@10 and processor seconds of every share, choice of users and teaching, beside the whole log."""
    setting, tried = _setting(run), list(_tried(run))
    whole, *points = (_student(setting, config) for config in track(tried, what="pruning", total=len(tried)))
    write_json(
        run / CURVE, {"users": len(setting.queries.targets_U), "points": [asdict(one) for one in (whole, *points)]}
    )
    lines = [
        Line(what=_WHOLE, ours=whole.ndcg, unit="NDCG@10"),
        Line(what=f"{_WHOLE}, training", ours=whole.cpu_seconds, unit="processor s"),
    ]
    for one in points:
        ratio = whole.cpu_seconds / max(one.cpu_seconds, 0.01)
        lines.append(Line(what=one.name, ours=one.ndcg, peer=whole.ndcg, peer_name=_WHOLE, unit="NDCG@10"))
        lines.append(
            Line(
                what=f"{one.name}, training",
                ours=one.cpu_seconds,
                peer=whole.cpu_seconds,
                peer_name=_WHOLE,
                ratio=ratio,
                unit="processor s",
            )
        )
    return lines


def _tried(run: Path) -> Iterator[PruningConfig]:
    """Yield the whole log, without and with the teacher, then every share."""
    yield PruningConfig()
    yield PruningConfig(distillation=DISTILLATION, teacher=str(run))
    for keep in SHARES:
        for prefer in PREFERENCES:
            for distillation in (0.0, DISTILLATION):
                yield PruningConfig(keep=keep, prefer=prefer, distillation=distillation, teacher=str(run))


def _setting(run: Path) -> Setting:
    recipe, world = load_recipe(str(run / "recipe.toml")), TrainingWorld.of_run(run)
    teacher = load_teacher(run, Catalogue.load(run / "catalog"), pick_device(recipe.device))
    objective = TrainingObjective(teacher, world.log, world.category_N, world.fit, seed=recipe.seed)
    return Setting(
        world=world,
        teacher=teacher,
        difficulty_U=difficulties(objective),
        queries=validation_sample(load_prepared(run / "data").log, recipe.seed),
    )


def _student(setting: Setting, config: PruningConfig) -> Student:
    """Train one student, and return its best epoch's NDCG@10 and what training and validation took."""
    everybody = config.keep == 1 and not config.distillation
    pruning = None if everybody else plan_pruning(config, setting.difficulty_U, setting.teacher, seed=0)
    teacher = setting.teacher
    with measured() as usage:
        trainer = setting.world.trainer(pruning=pruning, prior=teacher.head.prior(), device=teacher.device)
        pretrain(trainer, validate=lambda model: item_head_ndcg(model, setting.queries))
    LOG.info("pruning %s: ndcg@10 %.4f in %.1f processor s", config, trainer.training.best, usage.cpu_seconds)
    return Student(
        keep=config.keep,
        prefer=config.prefer,
        taught=config.distillation > 0,
        ndcg=trainer.training.best,
        cpu_seconds=usage.cpu_seconds,
    )
