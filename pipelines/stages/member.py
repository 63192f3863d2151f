"""Stage member: a Transformer over item ids alone, the item head's ensemble member."""

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
    """Train it on the training part by itself, and save the best epoch; none at all where it has no epochs."""
    config = job.recipe.member.model_copy(update={"max_length": job.recipe.model.max_history})
    if not config.epochs:
        return
    log = load_prepared(job.parent("data")).log
    network = fit_id_transformer(
        training_log(log),
        config,
        seed=derive_seed(job.recipe.seed, SASRec.name),
        name=SASRec.name,  # the draws of the rival, which it is when it is evaluated alone
        device=pick_device(job.recipe.device),
        validation=questions(log, "validation"),
        checkpoint=job.checkpoints / "checkpoint.pt",
        precision=job.recipe.precision,
    )
    network.save(job.out, config)


def load_member(folder: Path) -> tuple[IdTransformer, IdTransformerConfig] | None:
    """Return what the stage trained and its settings, or None where it trained nothing."""
    return IdTransformer.load(folder, IdTransformerConfig) if (folder / "config.json").exists() else None
