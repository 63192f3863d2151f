"""Stage calibrated: the item head gets its ensemble members, and the numbers that only validation can choose."""

from dataclasses import asdict

import numpy as np
import torch

from pipelines.job import Job
from pipelines.stages.member import load_members
from pipelines.stages.pretrain import validation_sample
from recsys.core.artifacts import write_json
from recsys.core.device import pick_device
from recsys.core.seeds import derive_seed
from recsys.core.telemetry import LOG
from recsys.data.prepare import load_prepared
from recsys.data.splits import training_log
from recsys.model.calibrate import calibrate
from recsys.model.generator import Generator


def calibrate_head(job: Job) -> None:
    """Write the pre-trained generator with its ensemble members and what was chosen for its item head."""
    log = load_prepared(job.parent("data")).log
    device = pick_device(job.recipe.device)
    generator = Generator.load(job.parent("model"), device)
    unused_X = torch.from_numpy(np.flatnonzero(training_log(log).counts_N == 0)).to(device)
    if members := load_members(job.parent("member"), job.parent("further_members")):
        generator.set_members(members, unused_X)
    chosen = calibrate(generator, validation_sample(log, derive_seed(job.recipe.seed, "model")), unused_X)
    LOG.info("item head: %s", "  ".join(f"{name} {value}" for name, value in asdict(chosen).items()))
    generator.save(job.out)
    write_json(job.out / "calibration.json", asdict(chosen))
