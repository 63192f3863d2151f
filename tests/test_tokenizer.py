"""Tests of MPQ: losses, encoding, determinism, collisions, quality, awkward inputs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.core.errors import DataError, TokenizerError
from recsys.tokenizer.assignment import resolve_collisions
from recsys.tokenizer.mpq import MPQConfig, MPQTokenizer, fit_tokenizer
from recsys.tokenizer.objectives import orthogonality_loss
from recsys.tokenizer.quality import QualityConfig, check, measure

SMALL = MPQConfig(num_codebooks=2, codebook_size=8, width=3, epochs=4, batch_size=32)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cloud(items=100, width=6, seed=0):
    return np.random.default_rng(seed).normal(size=(items, width)).astype(np.float32)


def hand_tokenizer(**changes):
    """Two experts of width one on two features: the identity; codewords 0 and 1 in both books; gate uniform."""
    config = MPQConfig(num_codebooks=2, codebook_size=2, width=1, **changes)
    tokenizer = MPQTokenizer(config, 2)
    with torch.no_grad():
        tokenizer.experts_FC.copy_(torch.eye(2))
        tokenizer.decoder.weight.copy_(torch.eye(2))
        tokenizer.codebooks_MKD.copy_(torch.tensor([[[0.0], [1.0]], [[0.0], [1.0]]]))
    return tokenizer


def test_losses_when_experts_are_the_identity_then_equal_hand_values():
    # v = (.8, .1): codes (1, 0), q = (1, 0); every squared difference is .04 + .01 = .05; W^T W = I
    # total = .05 + .001 * 0 + 4 * .05 + .25 * .05 = .2625
    losses, codes = hand_tokenizer().losses(torch.tensor([[0.8, 0.1]]))
    assert codes.tolist() == [[1, 0]]
    for name in ("reconstruction", "codebook", "commitment"):
        assert losses[name].item() == pytest.approx(0.05, rel=1e-5)
    assert losses["orthogonality"].item() == 0
    assert losses["total"].item() == pytest.approx(0.2625, rel=1e-5)


def test_orthogonality_loss_when_columns_are_parallel_then_two():
    # columns (3, 0) and (5, 0) normalise to the same: W^T W = [[1, 1], [1, 1]], off the identity by 1^2 + 1^2
    assert orthogonality_loss(torch.tensor([[3.0, 5.0], [0.0, 0.0]])).item() == pytest.approx(2.0)


def test_gate_when_biased_then_weights_are_softmax_times_codebooks():
    # bias (log 3, 0): softmax (.75, .25), times 2 = (1.5, .5); q = (1, 1) decodes to (1.5, .5)
    tokenizer = hand_tokenizer()
    with torch.no_grad():
        tokenizer.gate.bias.copy_(torch.tensor([np.log(3.0), 0.0]))
    decoded = tokenizer.reconstruct(np.array([[9, 9]], np.float32), np.array([[1, 1]]))
    np.testing.assert_allclose(decoded, [[1.5, 0.5]], rtol=1e-6)


def test_losses_when_commitment_only_then_codewords_get_no_gradient_from_it():
    tokenizer = hand_tokenizer(codebook_weight=0.0)
    losses, _ = tokenizer.losses(torch.tensor([[0.8, 0.1]]))
    losses["total"].backward()
    assert tokenizer.codebooks_MKD.grad is None or not tokenizer.codebooks_MKD.grad.any()
    # straight-through: reconstruction reaches the experts as if codewords were latents
    assert tokenizer.experts_FC.grad.any()


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_encode_when_vectors_are_codeword_sums_then_their_codes(metric):
    # one orthonormal rotation, M * width = features: expert r sees its own codeword exactly
    config = SMALL.model_copy(update={"epochs": 0, "metric": metric})
    tokenizer = fit_tokenizer(cloud(), config, seed=1)
    codes = np.random.default_rng(2).integers(0, 8, (20, 2))
    lifted = tokenizer.codewords_MKD()[np.arange(2), codes].reshape(20, 6)
    sums = lifted @ tokenizer.experts_FC.detach().numpy().T
    vectors = sums * tokenizer.scale.item() + tokenizer.mean_F.numpy()
    np.testing.assert_array_equal(tokenizer.encode(vectors, resolve=False), codes)


def test_fit_when_seed_is_equal_then_weights_and_codes_are_and_survive_saving(tmp_path: Path):
    first, second, other = (fit_tokenizer(cloud(), SMALL, seed=seed) for seed in (5, 5, 6))
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    assert not torch.equal(first.experts_FC, other.experts_FC)
    first.save(tmp_path)
    loaded = MPQTokenizer.load(tmp_path)
    assert loaded.config == SMALL
    np.testing.assert_array_equal(loaded.encode(cloud()), first.encode(cloud()))


def test_fit_when_trained_then_reconstructs_better_than_its_start():
    vectors = cloud(400, 12)
    errors = []
    for epochs in (0, 40):
        config = MPQConfig(num_codebooks=2, codebook_size=8, width=3, epochs=epochs, batch_size=64)
        tokenizer = fit_tokenizer(vectors, config, seed=1)
        codes = tokenizer.encode(vectors, resolve=False)
        errors.append(measure(codes, vectors, tokenizer.reconstruct(vectors, codes), 8).reconstruction_error)
    assert errors[1] < errors[0] < 1


def test_fit_when_a_codeword_is_dead_then_it_is_revived(monkeypatch):
    from recsys.tokenizer import mpq

    def far(points_ND, num_codes, _seed):
        start = np.full((num_codes, points_ND.shape[1]), 50.0, np.float32)
        start[0] = 0
        return start + np.arange(num_codes, dtype=np.float32)[:, None] * 1e-3

    monkeypatch.setattr(mpq, "kmeans_codewords", far)
    dead = [
        measure(fit_tokenizer(cloud(), config, seed=0).encode(cloud(), resolve=False), cloud(), cloud(), 8)
        for config in (SMALL.model_copy(update={"revive_every": every}) for every in (100, 1))
    ]
    assert dead[0].codebooks[0].dead == 7
    assert dead[1].codebooks[0].dead <= 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_fit_and_encode_when_vector_is_not_finite_then_data_error_names_the_row(value):
    vectors = cloud()
    tokenizer = fit_tokenizer(vectors, SMALL, seed=0)
    vectors[7, 2] = value
    with pytest.raises(DataError, match="row 7"):
        fit_tokenizer(vectors, SMALL, seed=0)
    with pytest.raises(DataError, match="row 7"):
        tokenizer.encode(vectors)


@pytest.mark.parametrize(
    "vectors",
    [
        np.zeros((20, 6), np.float32),
        np.full((20, 6), 3.0, np.float32),
        np.repeat(cloud(3), 10, axis=0),
        cloud(1),
        cloud(5),
        cloud(40) * 1e-6,
        cloud(40) * 1e6,
        cloud(40, 2),
    ],
    ids=["zero", "constant", "duplicates", "one-item", "fewer-than-codes", "tiny", "huge", "narrow"],
)
@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_fit_when_input_is_awkward_then_codes_are_valid_and_distinct(vectors, metric):
    tokenizer = fit_tokenizer(vectors, SMALL.model_copy(update={"metric": metric}), seed=0)
    codes = tokenizer.encode(vectors)
    assert codes.shape == (len(vectors), 2)
    assert codes.min() >= 0
    assert codes.max() < 8
    assert np.isfinite(tokenizer.reconstruct(vectors, codes)).all()
    assert len(np.unique(codes, axis=0)) == len(codes)  # 64 paths, at most 40 items


def test_fit_when_there_are_no_items_then_data_error():
    with pytest.raises(DataError, match="at least one"):
        fit_tokenizer(np.zeros((0, 6), np.float32), SMALL, seed=0)


def test_encode_when_width_differs_then_value_error():
    with pytest.raises(ValueError, match=r"shape \(items, 6\), got \(2, 5\)"):
        fit_tokenizer(cloud(), SMALL, seed=0).encode(np.zeros((2, 5), np.float32))


def test_resolve_when_three_collide_then_nearest_keeps_and_others_take_cheapest_free():
    # distances of 3 items to codes 0..2 in 2 books; all at (0, 0), own sums .2, .4, .6, so item 0 keeps.
    # item 1: cheapest change book 1 -> 1 (+.1).
    # item 2: the same is cheapest (+.1) but taken now, then book 0 -> 2 (+.3)
    distances = np.array(
        [
            [[0.1, 1, 1], [0.1, 1, 1]],
            [[0.2, 1, 1], [0.2, 0.3, 1]],
            [[0.3, 1, 0.6], [0.3, 0.4, 1]],
        ]
    )
    resolution = resolve_collisions(distances, np.zeros((3, 2), np.int64))
    assert resolution.codes_NM.tolist() == [[0, 0], [0, 1], [2, 0]]
    assert (resolution.moved, resolution.left) == (2, 0)
    assert resolution.price == pytest.approx((0.1 + 0.3) / 2)


def test_resolve_when_single_changes_are_taken_then_two_changes():
    # 2 books of 2 codes: (0, 1) and (1, 0) are taken, so the second item goes to (1, 1)
    distances = np.array([[[0.0, 1.0], [0.0, 1.0]]] * 2)
    resolution = resolve_collisions(distances, np.zeros((2, 2), np.int64), taken=np.array([[0, 1], [1, 0]]))
    assert resolution.codes_NM.tolist() == [[0, 0], [1, 1]]


def test_resolve_when_no_path_is_free_then_items_stay_and_are_counted():
    distances = np.zeros((6, 2, 2))
    resolution = resolve_collisions(distances, np.zeros((6, 2), np.int64))
    assert (resolution.moved, resolution.left) == (3, 2)


def test_resolve_when_a_new_item_lands_on_a_taken_path_then_it_moves():
    distances = np.array([[[0.0, 0.5], [0.0, 0.2]]])
    resolution = resolve_collisions(distances, np.zeros((1, 2), np.int64), taken=np.array([[0, 0]]))
    assert resolution.codes_NM.tolist() == [[0, 1]]


@given(st.integers(0, 10_000), st.integers(1, 25), st.integers(0, 6))
@settings(max_examples=60, deadline=None)
def test_resolve_when_random_then_distinct_untaken_and_asks_only_for_colliding_rows(seed, items, num_taken):
    rng = np.random.default_rng(seed)
    distances, codes = rng.random((items, 3, 4)), rng.integers(0, 2, (items, 3))
    taken = rng.integers(0, 4, (num_taken, 3))
    asked: list[int] = []

    def ask(rows):
        asked.extend(rows.tolist())
        return distances[rows]

    resolution = resolve_collisions(ask, codes, taken=taken)
    paths = [tuple(row) for row in resolution.codes_NM.tolist()]
    before = [tuple(row) for row in codes.tolist()]
    blocked = {tuple(row) for row in taken.tolist()}
    assert resolution.left == 0  # 64 paths, at most 31 in use
    assert len(set(paths)) == items
    assert not set(paths) & blocked
    assert set(asked) == {row for row in range(items) if before.count(before[row]) > 1 or before[row] in blocked}
    assert all(paths[row] == before[row] for row in range(items) if row not in asked)


def test_measure_when_hand_codes_then_hand_figures():
    # book 0 uses codes 0, 0, 1, 1 of 8: perplexity 2, use 2 / min(8, 4); book 1 one code: perplexity 1
    codes = np.array([[0, 3], [0, 3], [1, 3], [1, 3]])
    vectors = np.array([[0.0], [0], [2], [2]], np.float32)  # variance sum 4
    quality = measure(codes, vectors, vectors + 0.5, 8, nearest_NM=codes)  # error sum 4 * .25 = 1
    assert quality.to_json() == {
        "items": 4,
        "collision_rate": 1.0,
        "collision_rate_before": 1.0,
        "reconstruction_error": 0.25,
        "codebooks": [
            {"use": 0.5, "perplexity": pytest.approx(2.0), "dead": 6},
            {"use": 0.25, "perplexity": pytest.approx(1.0), "dead": 7},
        ],
    }
    with pytest.raises(TokenizerError, match=r"use of codebook 1 must be at least 0\.5, got 0\.250 .*codebook_size"):
        check(quality, QualityConfig())
    with pytest.raises(TokenizerError, match=r"perplexity of codebook 1 must be at least 1\.2 .*got 1\.0"):
        check(quality, QualityConfig(min_use=0.2, min_perplexity_share=0.3))
    with pytest.raises(TokenizerError, match=r"collision rate must be at most 0\.05, got 1\.000.*num_codebooks"):
        check(quality, QualityConfig(min_use=0.2))
    check(quality, QualityConfig(min_use=0.2, max_collision_rate=1.0))
