"""Stage features: one vector an item."""

from pipelines.job import Job
from recsys.core.seeds import derive_seed
from recsys.data.prepare import load_prepared
from recsys.data.splits import training_log
from recsys.features.assemble import FeatureBuilder


def build_features(job: Job) -> None:
    """Fit the item vectors, with behaviour of the training part only, and keep the transform for later items."""
    prepared = load_prepared(job.parent("data"))
    seed = derive_seed(job.recipe.seed, "features")
    FeatureBuilder.fit(prepared.items, training_log(prepared.log), job.recipe.features, seed).save(job.out)
