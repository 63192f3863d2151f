"""Stage tokenizer: fit the recipe's tokenizer and hold its quality against the recipe's bounds."""

from pipelines.job import Job
from recsys.core.artifacts import write_json
from recsys.core.device import pick_device
from recsys.core.seeds import derive_seed
from recsys.data.pairs import HeldOutPairs
from recsys.data.prepare import load_prepared
from recsys.data.splits import training_log
from recsys.features.assemble import FeatureBuilder
from recsys.features.categories import item_categories
from recsys.features.cross_fit import cross_fitted_pairs
from recsys.features.item_vectors import Features
from recsys.tokenizer.kinds import TokenizerConfig, fit_tokenizer
from recsys.tokenizer.quality import ReferenceData, check, measure


def fit_codebooks(job: Job) -> None:
    """Fit experts and codebooks, encode the catalogue, and end the run if a bound is broken."""
    vectors_NF = Features.load_vectors(job.parent("features"))
    config, seed = job.recipe.tokenizer, derive_seed(job.recipe.seed, "tokenizer")
    device = str(pick_device(job.recipe.device))
    tokenizer = fit_tokenizer(vectors_NF, config, seed=seed, device=device, pairs=held_out_pairs(job, config, seed))
    nearest_NM = tokenizer.encode(vectors_NF, resolve=False)
    codes_NM = tokenizer.move_apart(vectors_NF, nearest_NM) if config.resolve_collisions else nearest_NM
    items = load_prepared(job.parent("data")).items
    category_N, _ = item_categories(items, vectors_NF, seed=derive_seed(job.recipe.seed, "categories"))
    quality = measure(
        codes_NM,
        vectors_NF,
        tokenizer.reconstruct(vectors_NF, codes_NM),
        config.codebook_size,
        nearest_NM=nearest_NM,
        reference=ReferenceData(
            experts_FW=tokenizer.directions_FW(),
            category_N=category_N,
            nearest_NF=tokenizer.reconstruct(vectors_NF, nearest_NM),
            seed=seed,
        ),
    )
    check(quality, job.recipe.quality)
    tokenizer.save(job.out)
    write_json(job.out / "quality.json", quality.to_json())


def held_out_pairs(job: Job, config: TokenizerConfig, seed: int) -> list[HeldOutPairs]:
    """Return the cross-fitted pairs of the training log that a tokenizer's collaborative term learns; none without."""
    if config.kind != "mpq" or not config.collaborative.weight:
        return []
    training = training_log(load_prepared(job.parent("data")).log)
    builder, term = FeatureBuilder.load(job.parent("features")), config.collaborative
    return list(cross_fitted_pairs(builder, training, folds=term.folds, distance=term.distance, seed=seed))
