"""Stage features: one vector an item."""

from pipelines.job import Job
from recsys.core.seeds import derive_seed
from recsys.data.prepare import load_prepared
from recsys.data.splits import training_log
from recsys.features.assemble import assemble


def build_features(job: Job) -> None:
    """Assemble text, behavioural and given vectors; behaviour comes from the training part only."""
    prepared = load_prepared(job.run / "data")
    seed = derive_seed(job.recipe.seed, "features")
    assemble(prepared.items, training_log(prepared.log), job.recipe.features, seed).save(job.out)
