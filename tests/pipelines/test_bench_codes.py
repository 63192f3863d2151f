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
    assert len(mpq) == 4
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
    small = TokenModelConfig(width=16, layers=1, heads=2)
    one, two, both = (bench_codes(run, variants=variants, model=small, seeds=seeds) for seeds in ((1,), (2,), (1, 2)))
    assert [line.what for line in both] == [PEER] * 7 + ["MPQ"] * 10
    ours = {line.figure: line.ours for line in both if line.what == "MPQ"}
    each = [{line.figure: line.ours for line in lines if line.what == "MPQ"} for lines in (one, two)]
    assert ours["R@10"] >= ours["N@10"] > 0
    # users are drawn by the first seed, and so small a world has fewer than are drawn: all are asked every time
    for figure in ("N@10", "R@10", "reconstruction error", "perplexity over codes", "codes with words"):
        assert ours[figure] == pytest.approx(np.mean([figures[figure] for figures in each]))
    assert ours["deviation over seeds"] == pytest.approx(np.std([figures["N@10"] for figures in each], ddof=1))
    theirs = next(line.ours for line in both if (line.what, line.figure) == (PEER, "N@10"))
    assert ours[f"beside {PEER}, N@10"] == pytest.approx(ours["N@10"] - theirs)
    assert ours["from"] <= ours[f"beside {PEER}, N@10"] <= ours["to"]
