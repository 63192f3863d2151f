"""Stage data: from the data contract to indexed events and items."""

from pipelines.job import Job
from recsys.data.prepare import prepare, save_prepared
from recsys.data.table import read_dataset


def prepare_data(job: Job) -> None:
    """Read, check and filter the data set; every dropped row is counted in ``report.json``."""
    save_prepared(prepare(read_dataset(job.source), job.recipe.data), job.out)
