"""Tests of what all kinds of tokenizer share: saving, streams, prices, awkward inputs, extreme shapes."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.recipe import load_recipe
from recsys.core.errors import ArtifactError, DataError
from recsys.tokenizer import stream
from recsys.tokenizer.base import ItemTokenizerConfig
from recsys.tokenizer.kinds import KINDS, TokenizerConfig, fit_tokenizer, load_tokenizer
from recsys.tokenizer.mpq import MPQConfig, MPQTokenizer
from recsys.tokenizer.opq import OPQConfig, OPQTokenizer
from recsys.tokenizer.residual import ResidualConfig
from recsys.tokenizer.rqvae import RQVAEConfig
from tests.support.clouds import cloud

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = {"num_codebooks": 2, "codebook_size": 8}
SMALL: dict[str, ItemTokenizerConfig] = {
    "mpq": MPQConfig(**SHAPE, width=3, epochs=3, batch_size=32),
    "mpq, refined": MPQConfig(
        **SHAPE, width=3, epochs=3, batch_size=32, rotation_steps=5, joint_codewords=True, refine_sweeps=2
    ),
    "opq": OPQConfig(**SHAPE, rotation_steps=3),
    "residual": ResidualConfig(**SHAPE),
    "rqvae": RQVAEConfig(**SHAPE, latent_width=4, hidden=8, warm_epochs=2, epochs=3, batch_size=32, revive_every=1),
}
every_kind = pytest.mark.parametrize("kind", SMALL)


def test_kinds_when_listed_then_each_is_tested_here():
    assert {known.kind for known in KINDS} == {name.split(",")[0] for name in SMALL}


@every_kind
def test_fit_when_seed_is_equal_then_codes_are_and_survive_saving(kind, tmp_path: Path):
    first, second, other = (fit_tokenizer(cloud(), SMALL[kind], seed=seed) for seed in (5, 5, 6))
    codes = first.encode(cloud())
    np.testing.assert_array_equal(second.encode(cloud()), codes)
    assert (other.encode(cloud()) != codes).any()
    first.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert (type(loaded), loaded.config) == (type(first), SMALL[kind])
    np.testing.assert_array_equal(loaded.encode(cloud()), codes)
    np.testing.assert_array_equal(loaded.reconstruct(cloud(), codes), first.reconstruct(cloud(), codes))
    np.testing.assert_array_equal(loaded.codewords_MKD(), first.codewords_MKD())


@every_kind
def test_fit_when_ambient_seed_differs_then_codes_do_not(kind):
    codes = []
    for ambient in (1, 2):
        torch.manual_seed(ambient)
        codes.append(fit_tokenizer(cloud(), SMALL[kind], seed=5).encode(cloud()))
    np.testing.assert_array_equal(*codes)


@every_kind
def test_encode_when_streamed_or_mapped_then_as_at_once(kind, tmp_path: Path, monkeypatch):
    tokenizer, vectors = fit_tokenizer(cloud(), SMALL[kind], seed=0), cloud(100, seed=1)
    monkeypatch.setattr(stream, "BLOCK", 16)
    once = tokenizer.encode(vectors, resolve=False)
    cuts = [0, 3, 3, 50, 51, 99, 100]
    chunks = (vectors[start:stop] for start, stop in pairwise(cuts))
    np.testing.assert_array_equal(tokenizer.encode_stream(chunks), once)
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    np.testing.assert_array_equal(tokenizer.encode(mapped), tokenizer.encode(vectors))


def test_blocks_when_chunks_are_ragged_then_rows_in_order_in_full_blocks(monkeypatch):
    monkeypatch.setattr(stream, "BLOCK", 4)
    rows = cloud(11)
    blocks = list(stream.blocks([rows[:1], rows[1:1], rows[1:9], rows[9:]], 6))
    assert [len(block) for block in blocks] == [4, 4, 3]
    np.testing.assert_array_equal(np.concatenate(blocks), rows)


def test_blocks_when_a_late_row_is_not_finite_then_its_number_counts_all_chunks(monkeypatch):
    monkeypatch.setattr(stream, "BLOCK", 4)
    rows = cloud(11)
    rows[9, 0] = np.nan
    with pytest.raises(DataError, match="row 9"):
        list(stream.blocks([rows[:5], rows[5:]], 6))


def test_sample_when_there_are_more_items_then_a_seeded_part_in_order():
    rows = cloud(50)
    first, second, other = (stream.sample(rows, 20, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()
    places = [int(np.flatnonzero((rows == row).all(axis=1))[0]) for row in first]
    assert places == sorted(set(places))
    assert len(places) == 20


@every_kind
def test_fit_when_sampled_then_only_the_sample_counts_but_all_is_checked(kind):
    config = SMALL[kind].model_copy(update={"sample_size": 30})
    rows = cloud(100)
    whole = fit_tokenizer(rows, config, seed=3)
    part = fit_tokenizer(stream.sample(rows, 30, 3), config, seed=3)
    np.testing.assert_array_equal(whole.codewords_MKD(), part.codewords_MKD())
    for row in range(0, 100, 7):
        spoilt = rows.copy()
        spoilt[row] = np.nan
        with pytest.raises(DataError, match=f"row {row}"):
            fit_tokenizer(spoilt, config, seed=3)


@pytest.mark.parametrize("kind", ["mpq", "opq", "residual"])
def test_distances_when_brute_force_then_the_error_of_every_exchanged_code(kind):
    tokenizer, vectors = fit_tokenizer(cloud(), SMALL[kind], seed=0), cloud(9, seed=4)
    codes = np.random.default_rng(0).integers(0, 8, (9, 2))
    scale = float(tokenizer.scale)
    expected = np.empty((9, 2, 8))
    for book in range(2):
        for code in range(8):
            changed = codes.copy()
            changed[:, book] = code
            error = (vectors - tokenizer.reconstruct(vectors, changed)) / scale
            expected[:, book, code] = np.square(error).sum(axis=1)
    np.testing.assert_allclose(tokenizer.distances(vectors, codes), expected, rtol=1e-3, atol=1e-5)
    best = tokenizer.encode(vectors, resolve=False)
    np.testing.assert_array_equal(tokenizer.distances(vectors), tokenizer.distances(vectors, best))


def test_distances_when_rqvae_then_the_latents_error_of_every_exchanged_code():
    tokenizer, vectors = fit_tokenizer(cloud(), SMALL["rqvae"], seed=0), cloud(9, seed=4)
    codes = np.random.default_rng(0).integers(0, 8, (9, 2))
    latents = tokenizer.latents(tokenizer.standardise(vectors)).detach().numpy()
    words = tokenizer.codewords_MKD()
    first = np.square(latents[:, None] - words[0][None] - words[1][codes[:, 1]][:, None]).sum(-1)
    second = np.square(latents[:, None] - words[1][None] - words[0][codes[:, 0]][:, None]).sum(-1)
    np.testing.assert_allclose(tokenizer.distances(vectors, codes), np.stack([first, second], 1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["residual", "rqvae"])
def test_encode_when_levels_follow_each_other_then_each_takes_the_nearest_to_what_is_left(kind):
    tokenizer, vectors = fit_tokenizer(cloud(), SMALL[kind], seed=0), cloud(20, seed=2)
    points = tokenizer.standardise(vectors)
    rest = (tokenizer.latents(points) if kind == "rqvae" else points).detach().numpy()
    for level, words in enumerate(tokenizer.codewords_MKD()):
        codes = np.square(rest[:, None] - words[None]).sum(-1).argmin(1)
        np.testing.assert_array_equal(tokenizer.encode(vectors, resolve=False)[:, level], codes)
        rest = rest - words[codes]


@every_kind
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_fit_and_encode_when_vector_is_not_finite_then_data_error_names_the_row(kind, value):
    tokenizer = fit_tokenizer(cloud(), SMALL[kind], seed=0)
    vectors = cloud().astype(np.float64)
    vectors[7, 2] = value
    with pytest.raises(DataError, match="row 7"):
        fit_tokenizer(vectors, SMALL[kind], seed=0)
    with pytest.raises(DataError, match="row 7"):
        tokenizer.encode(vectors)


@every_kind
def test_fit_when_there_are_no_items_then_data_error(kind):
    with pytest.raises(DataError, match="at least one"):
        fit_tokenizer(np.zeros((0, 6), np.float32), SMALL[kind], seed=0)


@every_kind
def test_encode_when_nothing_or_the_wrong_width_comes_then_nothing_or_value_error(kind):
    tokenizer = fit_tokenizer(cloud(), SMALL[kind], seed=0)
    assert tokenizer.encode(np.zeros((0, 6), np.float32)).shape == (0, 2)
    with pytest.raises(ValueError, match=r"shape \(items, 6\), got \(2, 5\)"):
        tokenizer.encode(np.zeros((2, 5), np.float32))


AWKWARD = {
    "zero": np.zeros((20, 6), np.float32),
    "constant": np.full((20, 6), 3.0, np.float32),
    "duplicates": np.repeat(cloud(3), 10, axis=0),
    "one-item": cloud(1),
    "fewer-than-codes": cloud(5),
    "some-zero": np.concatenate([cloud(20), np.zeros((10, 6), np.float32)]),
    "tiny": cloud(40) * np.float32(1e-6),
    "huge": cloud(40) * np.float32(1e6),
    "narrow": cloud(40, 2),
    "indivisible": cloud(40, 7),
    "one-feature": cloud(40, 1),
}


@every_kind
@pytest.mark.parametrize("name", AWKWARD)
def test_fit_when_input_is_awkward_then_codes_are_valid_and_distinct(kind, name):
    vectors = AWKWARD[name]
    tokenizer = fit_tokenizer(vectors, SMALL[kind], seed=0)
    codes = tokenizer.encode(vectors)
    assert codes.shape == (len(vectors), 2)
    assert 0 <= codes.min() <= codes.max() < 8
    assert np.isfinite(tokenizer.reconstruct(vectors, codes)).all()
    assert len(np.unique(codes, axis=0)) == len(codes)  # 64 paths, at most 40 items
    later = tokenizer.encode(vectors[:5], taken_NM=codes)
    assert len(np.unique(np.concatenate([codes, later]), axis=0)) == len(codes) + len(later)


@every_kind
@pytest.mark.parametrize("shape", [{"num_codebooks": 2, "codebook_size": 65536}, {"num_codebooks": 64}], ids=str)
def test_fit_when_shape_is_extreme_then_codes_are_valid(kind, shape, tmp_path: Path):
    changes = {"codebook_size": 4} | shape | {"epochs": 1, "width": 2, "warm_epochs": 1}
    known = {key: value for key, value in changes.items() if key in type(SMALL[kind]).model_fields}
    tokenizer = fit_tokenizer(cloud(30), SMALL[kind].model_copy(update=known), seed=0)
    codes = tokenizer.encode(cloud(30))
    assert codes.shape == (30, changes["num_codebooks"])
    assert 0 <= codes.min() <= codes.max() < changes["codebook_size"]
    assert len(np.unique(codes, axis=0)) == 30
    tokenizer.save(tmp_path)
    np.testing.assert_array_equal(load_tokenizer(tmp_path).encode(cloud(30)), codes)


@pytest.mark.parametrize("kind", ["opq", "residual", "rqvae"])
def test_fit_when_there_are_more_codes_then_reconstructs_better(kind):
    vectors, errors = cloud(200, 8), []
    for size in (2, 64):
        tokenizer = fit_tokenizer(vectors, SMALL[kind].model_copy(update={"codebook_size": size, "epochs": 8}), seed=1)
        reconstructed = tokenizer.reconstruct(vectors, tokenizer.encode(vectors, resolve=False))
        errors.append(float(np.square(vectors - reconstructed).sum() / np.square(vectors - vectors.mean(0)).sum()))
    assert errors[1] < errors[0] < 1.01


def test_opq_when_rotation_is_trained_then_orthonormal_and_better_than_none():
    mixed = cloud(600, 8) * 2.0 ** -np.arange(8, dtype=np.float32)
    errors = []
    for steps in (0, 20):
        config = OPQConfig(num_codebooks=4, codebook_size=8, rotation_steps=steps)
        tokenizer = OPQTokenizer.fit(mixed, config, seed=0)
        rotation = tokenizer.rotation_WW.numpy()
        np.testing.assert_allclose(rotation.T @ rotation, np.eye(8), atol=1e-4)
        reconstructed = tokenizer.reconstruct(mixed, tokenizer.encode(mixed, resolve=False))
        errors.append(float(np.square(mixed - reconstructed).sum()))
    assert errors[1] < errors[0]


def test_rqvae_when_a_codeword_is_dead_then_it_is_revived():
    config = SMALL["rqvae"].model_copy(update={"epochs": 0})
    tokenizer = fit_tokenizer(cloud(), config, seed=0)
    with torch.no_grad():
        tokenizer.codebooks_MKD[0, 1:] = 1e4
    points = tokenizer.standardise(cloud())
    assert len(np.unique(tokenizer.encode(cloud(), resolve=False)[:, 0])) == 1
    tokenizer._revive(points, torch.Generator().manual_seed(0))
    assert len(np.unique(tokenizer.encode(cloud(), resolve=False)[:, 0])) == 8


@pytest.mark.parametrize("kind", [known.kind for known in KINDS])
def test_recipe_when_kind_is_set_then_shared_keys_hold_and_others_wait(kind):
    recipe = load_recipe(
        "smoke", (f"tokenizer.kind={kind}", "tokenizer.rqvae.hidden=16", "tokenizer.opq.rotation_steps=2")
    )
    chosen = recipe.tokenizer.chosen()
    assert (chosen.num_codebooks, chosen.codebook_size) == (4, 16)  # smoke's, and so are MPQ's width and epochs
    expected = {
        "mpq": ("width", 8),
        "opq": ("rotation_steps", 2),
        "rqvae": ("hidden", 16),
        "residual": ("sample_size", 200_000),
    }
    name, value = expected[kind]
    assert getattr(chosen, name) == value
    assert fit_tokenizer(cloud(8), recipe.tokenizer.model_copy(update={"epochs": 0}), seed=0).kind == kind


def test_load_when_kind_is_unknown_or_another_then_artifact_error(tmp_path: Path):
    fit_tokenizer(cloud(), SMALL["residual"], seed=0).save(tmp_path)
    with pytest.raises(ArtifactError, match="must be of kind mpq, got residual"):
        MPQTokenizer.load(tmp_path)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"residual"', '"lattice"'))
    with pytest.raises(ArtifactError, match="got 'lattice'"):
        load_tokenizer(tmp_path)


def test_fit_when_settings_are_of_no_kind_then_type_error():
    with pytest.raises(TypeError, match="TokenizerConfig"):
        fit_tokenizer(cloud(), ItemTokenizerConfig(), seed=0)
    assert TokenizerConfig().chosen() == MPQConfig()
