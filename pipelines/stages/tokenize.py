"""Stage tokenizer: fit MPQ and hold its quality against the recipe's bounds."""

from pipelines.job import Job
from recsys.core.artifacts import write_json
from recsys.core.device import pick_device
from recsys.core.seeds import derive_seed
from recsys.features.assemble import Features
from recsys.tokenizer.mpq import fit_tokenizer
from recsys.tokenizer.quality import check, measure


def fit_mpq(job: Job) -> None:
    """Fit the experts and codebooks, encode the catalogue, and end the run if a bound is broken."""
    vectors_NF = Features.load(job.run / "features").vectors_NF
    seed = derive_seed(job.recipe.seed, "tokenizer")
    tokenizer = fit_tokenizer(vectors_NF, job.recipe.tokenizer, seed=seed, device=str(pick_device(job.recipe.device)))
    codes_NM = tokenizer.encode(vectors_NF)
    quality = measure(
        codes_NM,
        vectors_NF,
        tokenizer.reconstruct(vectors_NF, codes_NM),
        job.recipe.tokenizer.codebook_size,
        nearest_NM=tokenizer.encode(vectors_NF, resolve=False),
    )
    check(quality, job.recipe.quality)
    tokenizer.save(job.out)
    write_json(job.out / "quality.json", quality.to_json())
