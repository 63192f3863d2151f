"""Bench codes: one line a figure for every tokenizer, on a small run's features."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.benches.codes import PEER, VARIANTS, bench_codes, perplexity
from recsys.model.tokens.config import TokenModelConfig
from recsys.tokenizer.collaborative import CollaborativeConfig
from recsys.tokenizer.kinds import TokenizerConfig


def test_perplexity_when_codes_are_even_or_one_then_is_their_number() -> None:
    assert perplexity(np.array([0, 1, 2, 3] * 5)) == pytest.approx(4.0)
    assert perplexity(np.array([2, 2, 2])) == pytest.approx(1.0)


def test_variants_when_listed_then_mpq_has_experts_that_share_out_the_features() -> None:
    mpq = {name: config for name, config in VARIANTS.items() if config.kind == "mpq"}
    assert len(mpq) == 6
    assert all(config.num_codebooks * config.width == 256 for config in mpq.values())
    assert sum(config.collaborative.weight > 0 for config in mpq.values()) == 3


@pytest.mark.usefixtures("one_thread")
def test_bench_when_a_run_is_small_then_every_tokenizer_has_all_figures_beside_opq(run: Path) -> None:
    shape = {"num_codebooks": 2, "codebook_size": 8, "width": 4, "epochs": 2}
    term = CollaborativeConfig(weight=1.0, batch_size=16)
    variants = {
        PEER: TokenizerConfig(kind="opq", **shape),
        "MPQ": TokenizerConfig(**shape, collaborative=term),
    }
    lines = bench_codes(run, variants=variants, model=TokenModelConfig(width=16, layers=1, heads=2))
    assert [line.what for line in lines] == [PEER] * 6 + ["MPQ"] * 6
    assert len({(line.what, line.unit) for line in lines}) == 12
    # nobody's next item is rare in so small a world: that figure alone may be none
    measured = [line for line in lines if not line.unit.startswith("Recall@10, items")]
    assert all(line.ours >= 0 for line in measured)
    assert all(line.peer == line.ours for line in measured if line.what == PEER)
    by_unit = {line.unit: line.ours for line in lines if line.what == "MPQ"}
    assert by_unit["Recall@10"] >= by_unit["NDCG@10"] > 0
