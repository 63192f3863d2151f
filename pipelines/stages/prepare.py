"""Stage data: from the data contract to indexed events and items."""

from pipelines.job import Job
from recsys.core.telemetry import LOG
from recsys.data.prepare import prepare, save_prepared
from recsys.data.table import read_dataset
from recsys.data.trainable import check_trainable


def prepare_data(job: Job) -> None:
    """Read, check and filter the data set; every dropped row is counted in ``report.json``.

    What makes training impossible is an error here, before anything trains.
    """
    prepared = prepare(read_dataset(job.source), job.recipe.data)
    if left_out := prepared.report["rows_no_likes"]:
        LOG.info("data: events that are no likes, left out: %s", left_out)
    for note in check_trainable(prepared.log):
        LOG.warning("data: %s", note)
    save_prepared(prepared, job.out)
