"""Stage catalog: every item's codes and category, and words for every code."""

from pipelines.job import Job
from recsys.codes.catalogue import Catalogue
from recsys.codes.layout import CodeLayout
from recsys.core.seeds import derive_seed
from recsys.data.prepare import load_prepared
from recsys.features.categories import item_categories
from recsys.features.item_vectors import Features
from recsys.tokenizer.facets import facets
from recsys.tokenizer.kinds import load_tokenizer


def build_catalog(job: Job) -> None:
    """Encode all items with the fitted tokenizer and name what its codes mean."""
    items = load_prepared(job.parent("data")).items
    vectors_NF = Features.load_vectors(job.parent("features"))
    tokenizer = load_tokenizer(job.parent("tokenizer"))
    codes_NM = tokenizer.encode(vectors_NF)
    layout = CodeLayout(num_codebooks=codes_NM.shape[1], codebook_size=tokenizer.config.codebook_size)
    category_N, names = item_categories(items, vectors_NF, seed=derive_seed(job.recipe.seed, "categories"))
    Catalogue(
        item_ids=items["item_id"].to_pylist(),
        codes_NM=codes_NM,
        category_N=category_N,
        num_categories=len(names),
        layout=layout,
        category_names=tuple(names),
        facets=facets(codes_NM, items, layout.codebook_size),
    ).save(job.out)
