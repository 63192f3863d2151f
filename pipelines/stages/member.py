"""Stages member and further_members: Transformers over item ids alone, the item head's ensemble members."""

from pathlib import Path

from pipelines.job import Job
from recsys.baselines.sasrec import SASRec
from recsys.core.device import pick_device
from recsys.core.seeds import derive_seed
from recsys.data.prepare import load_prepared
from recsys.data.splits import questions, training_log
from recsys.sequence.id_training import fit_id_transformer
from recsys.sequence.id_transformer import IdTransformer, IdTransformerConfig


def train_member(job: Job) -> None:
    """Train the first member on the training part, and save the best epoch; none at all where it has no epochs."""
    if job.recipe.member.epochs:
        # by the draws of the rival, which it is when it is evaluated alone
        _train(job, job.out, job.checkpoints / "checkpoint.pt", seed=derive_seed(job.recipe.seed, SASRec.name))


def train_further_members(job: Job) -> None:
    """Train the other members in the same way, each by a seed of its own; none where the recipe has no first one."""
    if job.recipe.member.epochs:
        for number in range(1, job.recipe.further_members + 1):
            seed = derive_seed(job.recipe.seed, SASRec.name, number)
            _train(job, job.out / str(number), job.checkpoints / f"{number}.pt", seed=seed)


def _train(job: Job, out: Path, checkpoint: Path, *, seed: int) -> None:
    config = job.recipe.member.model_copy(update={"max_length": job.recipe.model.max_history})
    log = load_prepared(job.parent("data")).log
    network = fit_id_transformer(
        training_log(log),
        config,
        seed=seed,
        name=SASRec.name,
        device=pick_device(job.recipe.device),
        validation=questions(log, "validation"),
        checkpoint=checkpoint,
        precision=job.recipe.precision,
    )
    network.save(out, config)


def load_member(folder: Path) -> tuple[IdTransformer, IdTransformerConfig] | None:
    """Return a member and its settings, or None where there was none to train."""
    return IdTransformer.load(folder, IdTransformerConfig) if (folder / "config.json").exists() else None


def load_members(first: Path, further: Path) -> list[tuple[IdTransformer, IdTransformerConfig]]:
    """Return all members and their settings, the first one first, from the folders of both stages."""
    folders = [first, *sorted(further.glob("[0-9]*"), key=lambda folder: int(folder.name))]
    found = [load_member(folder) for folder in folders]
    return [member for member in found if member is not None]
