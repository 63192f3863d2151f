"""Stage aligned: GRPO or DPO on recommendation rewards, from the pre-trained model."""

from dataclasses import asdict

from pipelines.job import Job
from recsys.alignment.align import align
from recsys.codes.catalogue import Catalogue
from recsys.core.artifacts import write_json
from recsys.core.device import pick_device
from recsys.core.seeds import derive_seed
from recsys.data.prepare import load_prepared
from recsys.data.splits import training_log
from recsys.model.generator import Generator
from recsys.tokenizer.kinds import load_tokenizer


def align_model(job: Job) -> None:
    """Align a copy of the pre-trained model and write its diagnostics beside it."""
    generator = Generator.load(job.parent("calibrated"), pick_device(job.recipe.device))
    if job.recipe.alignment.steps == 0:
        generator.save(job.out)
        write_json(job.out / "alignment.json", {"skipped": "alignment.steps is 0"})
        return
    report = align(
        generator,
        training_log(load_prepared(job.parent("data")).log),
        config=job.recipe.alignment,
        seed=derive_seed(job.recipe.seed, "alignment"),
        codewords_MKD=load_tokenizer(job.parent("tokenizer")).codewords_MKD(),
        category_N=Catalogue.load(job.parent("catalog")).category_N,
        folder=job.checkpoints / "alignment",
        fit=job.recipe.fit,
        precision=job.recipe.precision,
    )
    generator.save(job.out)
    figures = asdict(report)
    job.timings.update({name: figures.pop(name) for name in list(figures) if "second" in name})
    write_json(job.out / "alignment.json", figures)
