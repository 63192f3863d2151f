"""Tests of MPQ: losses, encoding, determinism, collisions, quality, awkward inputs."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.core.errors import DataError, TokenizerError
from recsys.tokenizer.assignment import resolve_collisions
from recsys.tokenizer.kinds import fit_tokenizer, load_tokenizer
from recsys.tokenizer.losses import orthogonality_loss
from recsys.tokenizer.mpq import MPQConfig, MPQTokenizer
from recsys.tokenizer.quality import QualityConfig, check, measure
from tests.support.clouds import cloud

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = MPQConfig(num_codebooks=2, codebook_size=8, width=3, epochs=4, batch_size=32)


def hand_tokenizer(**changes):
    """Two experts of width one on two features: the identity; codewords 0 and 1 in both books; gate uniform."""
    config = MPQConfig(num_codebooks=2, codebook_size=2, width=1, **changes)
    tokenizer = MPQTokenizer(config, 2)
    with torch.no_grad():
        tokenizer.experts_FW.copy_(torch.eye(2))
        tokenizer.decoder.weight.copy_(torch.eye(2))
        tokenizer.codebooks_MKD.copy_(torch.tensor([[[0.0], [1.0]], [[0.0], [1.0]]]))
    return tokenizer


def test_losses_when_experts_are_the_identity_then_equal_hand_values():
    # v = (.8, .1): codes (1, 0), q = (1, 0); every squared difference is .04 + .01 = .05; W^T W = I
    # total = .05 + .001 * 0 + 4 * .05 + .25 * .05 = .2625
    losses, codes = hand_tokenizer(codebook_weight=4.0, commitment=0.25).losses(torch.tensor([[0.8, 0.1]]))
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
    tokenizer = hand_tokenizer(codebook_weight=0.0, joint_codewords=False)
    losses, _ = tokenizer.losses(torch.tensor([[0.8, 0.1]]))
    losses["total"].backward()
    assert tokenizer.codebooks_MKD.grad is None or not tokenizer.codebooks_MKD.grad.any()
    # straight-through: reconstruction reaches the experts as if codewords were latents
    assert tokenizer.experts_FW.grad.any()


def test_losses_when_codewords_are_joint_then_reconstruction_moves_the_chosen_ones():
    # decoded (1, 0) for (.8, .1): gradient 2 (1 - .8) = .4 to code 1 of book 0, 2 (0 - .1) = -.2 to code 0 of book 1
    tokenizer = hand_tokenizer(codebook_weight=0.0, joint_codewords=True)
    tokenizer.losses(torch.tensor([[0.8, 0.1]]))[0]["total"].backward()
    expected = torch.tensor([[[0.0], [0.4]], [[-0.2], [0.0]]])
    torch.testing.assert_close(tokenizer.codebooks_MKD.grad, expected)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_refine_when_experts_overlap_then_no_single_change_of_code_is_better(metric):
    config = MPQConfig(num_codebooks=3, codebook_size=6, width=4, epochs=3, refine_sweeps=30, metric=metric)
    tokenizer, vectors = fit_tokenizer(cloud(80), config, seed=0), cloud(80)
    codes = tokenizer.encode(vectors, resolve=False)
    prices = tokenizer.distances(vectors, codes)
    own = np.take_along_axis(prices, codes[:, :, None], axis=2)
    assert (own <= prices.min(axis=2, keepdims=True) + 1e-5).all()
    plain = MPQTokenizer(config.model_copy(update={"refine_sweeps": 0}), 6)
    plain.load_state_dict(tokenizer.state_dict())
    nearest = plain.encode(vectors, resolve=False)
    assert (nearest != codes).any()
    errors = [np.square(vectors - tokenizer.reconstruct(vectors, c)).sum(axis=1) for c in (nearest, codes)]
    assert (errors[1] <= errors[0] + 1e-5).all()


def test_gate_when_turned_off_then_codewords_count_one():
    tokenizer = hand_tokenizer(use_gate=False)
    with torch.no_grad():
        tokenizer.gate.bias.copy_(torch.tensor([5.0, 0.0]))
    decoded = tokenizer.reconstruct(np.array([[9, 9]], np.float32), np.array([[1, 1]]))
    np.testing.assert_allclose(decoded, [[1.0, 1.0]], rtol=1e-6)


def test_load_when_saved_before_there_were_kinds_then_nearest_codes(tmp_path: Path):
    tokenizer = fit_tokenizer(cloud(), SMALL, seed=0)
    tokenizer.save(tmp_path)
    old = ["kind", "refine_sweeps", "use_gate", "joint_codewords", "rotation_steps", "sample_size"]
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in values.items() if k not in old}))
    loaded = load_tokenizer(tmp_path)
    latents = loaded.latents(loaded.standardise(cloud())).detach().numpy()
    gaps = np.square(latents[:, :, None] - loaded.codewords_MKD()).sum(-1)
    np.testing.assert_array_equal(loaded.encode(cloud(), resolve=False), gaps.argmin(-1))


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_encode_when_vectors_are_codeword_sums_then_their_codes(metric):
    # one orthonormal rotation, M * width = features: expert r sees its own codeword exactly
    config = SMALL.model_copy(update={"epochs": 0, "metric": metric})
    tokenizer = fit_tokenizer(cloud(), config, seed=1)
    codes = np.random.default_rng(2).integers(0, 8, (20, 2))
    lifted = tokenizer.codewords_MKD()[np.arange(2), codes].reshape(20, 6)
    sums = lifted @ tokenizer.experts_FW.detach().numpy().T
    vectors = sums * tokenizer.scale.item() + tokenizer.mean_F.numpy()
    np.testing.assert_array_equal(tokenizer.encode(vectors, resolve=False), codes)


def test_fit_when_seed_is_equal_then_weights_and_codes_are_and_survive_saving(tmp_path: Path):
    first, second, other = (fit_tokenizer(cloud(), SMALL, seed=seed) for seed in (5, 5, 6))
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    assert not torch.equal(first.experts_FW, other.experts_FW)
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
    from recsys.tokenizer import mpq_fit

    def far(points_ND, num_codes, _seed):
        start = np.full((num_codes, points_ND.shape[1]), 50.0, np.float32)
        start[0] = 0
        return start + np.arange(num_codes, dtype=np.float32)[:, None] * 1e-3

    monkeypatch.setattr(mpq_fit, "kmeans_codewords", far)
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


def slow_resolve(distances_NMK, codes_NM):
    """The readable way: sort all single changes, then pairs of the 64 cheapest, for every item by itself."""
    paths, held = [tuple(row) for row in codes_NM.tolist()], {tuple(row) for row in codes_NM.tolist()}
    result, left = list(paths), 0
    for path in dict.fromkeys(path for path in paths if paths.count(path) > 1):
        rows = [row for row, other in enumerate(paths) if other == path]
        own = {row: sum(distances_NMK[row, book, code] for book, code in enumerate(path)) for row in rows}
        for row in sorted(rows, key=own.__getitem__)[1:]:
            rise = {
                (book, code): distances_NMK[row, book, code] - distances_NMK[row, book, path[book]]
                for book in range(len(path))
                for code in range(distances_NMK.shape[2])
                if code != path[book]
            }
            singles = sorted(rise, key=rise.__getitem__)
            pairs = [pair for pair in combinations(singles[:64], 2) if pair[0][0] != pair[1][0]]
            pairs.sort(key=lambda pair: rise[pair[0]] + rise[pair[1]])
            options = [dict(enumerate(path)) | dict(change) for change in [*((single,) for single in singles), *pairs]]
            free = next((o for o in (tuple(option.values()) for option in options) if o not in held), None)
            left += free is None
            result[row] = free or path
            held.add(result[row])
    return np.array(result), left


@given(st.integers(0, 10_000), st.integers(1, 30), st.booleans())
@settings(max_examples=60, deadline=None)
def test_resolve_when_random_then_as_the_slow_way_and_in_pieces_too(seed, items, alike):
    rng = np.random.default_rng(seed)
    distances, codes = rng.random((items, 2, 5)).astype(np.float32), rng.integers(0, 2, (items, 2))
    if alike:
        distances[:] = distances[0]
    expected, left = slow_resolve(distances, codes)
    for size in (5, 2**22):  # so large a codebook leaves room for one item at a time
        resolution = resolve_collisions(distances.__getitem__, codes, codebook_size=size)
        np.testing.assert_array_equal(resolution.codes_NM, expected)
        assert resolution.left == left


def test_resolve_when_a_thousand_are_identical_then_all_get_paths():
    # 4 books of 64 codes: 1 + 4 * 63 = 253 paths within one change, the rest within two; 1,000 need both
    distances = np.random.default_rng(0).random((1, 4, 64)).astype(np.float32)
    resolution = resolve_collisions(lambda rows: distances.repeat(len(rows), 0), np.zeros((1000, 4), np.int64))
    assert (resolution.moved, resolution.left) == (999, 0)
    assert len(np.unique(resolution.codes_NM, axis=0)) == 1000


def test_measure_when_hand_codes_then_hand_figures():
    # book 0 uses codes 0, 0, 1, 1 of 8: perplexity 2, use 2 / min(8, 4); book 1 one code: perplexity 1
    codes = np.array([[0, 3], [0, 3], [1, 3], [1, 3]])
    vectors = np.array([[0.0], [0], [2], [2]], np.float32)  # variance sum 4
    quality = measure(codes, vectors, vectors + 0.5, 8, nearest_NM=codes)  # error sum 4 * .25 = 1
    assert (
        quality.to_json().items()
        >= {
            "items": 4,
            "collision_rate": 1.0,
            "collision_rate_before": 1.0,
            "reconstruction_error": 0.25,
            "codebooks": [
                {"use": 0.5, "perplexity": pytest.approx(2.0), "dead": 6},
                {"use": 0.25, "perplexity": pytest.approx(1.0), "dead": 7},
            ],
        }.items()
    )
    with pytest.raises(TokenizerError, match=r"use of codebook 1 must be at least 0\.5, got 0\.250 .*codebook_size"):
        check(quality, QualityConfig())
    with pytest.raises(TokenizerError, match=r"perplexity of codebook 1 must be at least 1\.2 .*got 1\.0"):
        check(quality, QualityConfig(min_use=0.2, min_perplexity_share=0.3))
    with pytest.raises(TokenizerError, match=r"collision rate must be at most 0\.005, got 1\.000.*num_codebooks"):
        check(quality, QualityConfig(min_use=0.2))
    check(quality, QualityConfig(min_use=0.2, max_collision_rate=1.0))
