"""Stage baselines: popularity, item co-occurrence and softmax SASRec from the same log."""

import time
from pathlib import Path

from pipelines.job import Job
from recsys.baselines.cooccurrence import Cooccurrence
from recsys.baselines.popularity import Popularity
from recsys.baselines.sasrec import SASRec
from recsys.contracts import Recommender
from recsys.core.artifacts import write_timings
from recsys.core.seeds import derive_seed
from recsys.data.prepare import load_prepared
from recsys.data.splits import questions, training_log


def fit_baselines(job: Job) -> None:
    """Fit and save every rival, and how long each took."""
    log = load_prepared(job.run / "data").log
    training, config = training_log(log), job.recipe.baselines
    seconds: dict[str, float] = {}

    began = time.perf_counter()
    Popularity.fit(training).save(job.out / "popularity")
    seconds["popularity"] = time.perf_counter() - began

    began = time.perf_counter()
    Cooccurrence.fit(training, config.cooccurrence).save(job.out / "cooccurrence")
    seconds["cooccurrence"] = time.perf_counter() - began

    began = time.perf_counter()
    seed = derive_seed(job.recipe.seed, "sasrec")
    SASRec.fit(training, config.sasrec, seed=seed, validation=questions(log, "validation")).save(job.out / "sasrec")
    seconds["sasrec"] = time.perf_counter() - began
    write_timings(job.run, "baselines", seconds)


def load_baselines(folder: Path) -> list[Recommender]:
    """Load the fitted rivals."""
    return [
        Popularity.load(folder / "popularity"),
        Cooccurrence.load(folder / "cooccurrence"),
        SASRec.load(folder / "sasrec"),
    ]
