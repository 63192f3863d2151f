"""Codebooks fitted anew and numbered by the old ones."""

from itertools import permutations

import numpy as np
import pytest

from recsys.core.errors import ConfigError
from recsys.tokenizer.kinds import fit_tokenizer
from recsys.tokenizer.mpq import MPQConfig, MPQTokenizer
from recsys.tokenizer.refresh import matched, refresh
from recsys.tokenizer.residual import ResidualConfig


def _clusters(seed: int, shift: float = 0.0) -> np.ndarray:
    """Return 300 items around 12 points that are the same for every seed."""
    centres = np.random.default_rng(0).normal(size=(12, 10)) * 4 + shift
    rng = np.random.default_rng(seed)
    return (centres[rng.integers(0, 12, 300)] + rng.normal(size=(300, 10)) * 0.3).astype(np.float32)


def test_matched_when_compared_with_all_orders_then_has_the_least_distance() -> None:
    rng = np.random.default_rng(3)
    old, new = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    costs = {order: np.square(old - new[list(order)]).sum() for order in permutations(range(5))}
    assert tuple(matched(old, new)) == min(costs, key=costs.get)


def test_refresh_when_codes_are_matched_then_most_items_keep_theirs() -> None:
    vectors = _clusters(1)
    tokenizer = MPQTokenizer.fit(vectors, MPQConfig(num_codebooks=2, codebook_size=12, width=5, epochs=3), seed=1)
    today = np.concatenate([vectors, _clusters(2, shift=0.1)])
    found = refresh(tokenizer, today, seed=5)
    # numbered by k-means, an item keeps its code by chance alone
    assert all(kept > unmatched + 0.1 for kept, unmatched in zip(found.kept_M, found.unmatched_M, strict=True))
    before, after = (one.encode(today, resolve=False) for one in (tokenizer, found.tokenizer))
    assert (before == after).mean(axis=0) == pytest.approx(found.kept_M)
    assert np.array_equal(found.tokenizer.directions_FW(), tokenizer.directions_FW())
    error = [
        np.square(one.latents(one.standardise(today)).detach().numpy() - _codewords(one, today)).sum()
        for one in (tokenizer, found.tokenizer)
    ]
    assert error[1] <= error[0]


def test_refresh_when_codebooks_are_not_parallel_then_is_refused() -> None:
    vectors = _clusters(1)
    residual = fit_tokenizer(vectors, ResidualConfig(num_codebooks=2, codebook_size=8), seed=1)
    with pytest.raises(ConfigError, match="codebooks can be refreshed where they are parallel"):
        refresh(residual, vectors, seed=1)


def _codewords(tokenizer: MPQTokenizer, vectors: np.ndarray) -> np.ndarray:
    codes = tokenizer.encode(vectors, resolve=False)
    return np.stack([tokenizer.codewords_MKD()[book][codes[:, book]] for book in range(codes.shape[1])], axis=1)
