from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.core.errors import ArtifactError
from recsys.model.tokens.mixture import TokenMixture, token_log_probs
from tests.support.tiny_tokens import histories, tiny_mixture, tiny_model


def test_mixture_when_asked_then_item_logits_are_the_sum_of_its_codes_logits_in_all_codebooks() -> None:
    mixture = tiny_mixture()
    codes_NM = mixture.codes_NM()
    assert codes_NM.shape == (20, 5)
    with torch.inference_mode():
        logits_BN = mixture.queries(histories()) @ mixture.item_keys().T
        codes_BMK = mixture.code_logits(histories())
    for item, codes_M in enumerate(codes_NM.tolist()):
        wanted_B = sum(codes_BMK[:, book, code] for book, code in enumerate(codes_M))
        torch.testing.assert_close(logits_BN[:, item], wanted_B)


def test_codebook_weights_when_experts_share_codebooks_then_their_weights_add_up() -> None:
    first, second = tiny_mixture().models()
    copy, books = tiny_mixture().models()[0], (first.layout.num_codebooks, second.layout.num_codebooks)
    mixture = TokenMixture({"a": first, "b": second, "copy": copy}, [0.25, 0.125, 0.5], {"copy": "a"})
    # "a" and its copy read the same codebooks: .25 + .5
    assert mixture.codebook_weights().tolist() == [0.75] * books[0] + [0.125] * books[1]


def test_mixture_when_saved_and_loaded_then_it_says_the_same(tmp_path: Path) -> None:
    mixture = tiny_mixture()
    mixture.save(tmp_path)
    loaded = TokenMixture.load(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    np.testing.assert_array_equal(token_log_probs(loaded)(histories()), token_log_probs(mixture)(histories()))
    np.testing.assert_array_equal(loaded.codes_NM(), mixture.codes_NM())


def test_mixture_when_a_file_is_missing_then_the_error_names_it(tmp_path: Path) -> None:
    tiny_mixture().save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"model\.safetensors must exist"):
        TokenMixture.load(tmp_path)


def test_mixture_when_its_settings_are_of_another_version_then_the_error_says_so(tmp_path: Path) -> None:
    tiny_mixture().save(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"width"', '"wide"'))
    with pytest.raises(ArtifactError, match=r"config\.json must hold the settings of this version"):
        TokenMixture.load(tmp_path)


def test_mixture_when_the_weights_are_of_another_shape_then_the_error_says_so(tmp_path: Path) -> None:
    tiny_mixture().save(tmp_path)
    TokenMixture({"first": tiny_model()}, [1.0]).save(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(tmp_path / "model.safetensors")
    with pytest.raises(ArtifactError, match="must hold the weights of its config"):
        TokenMixture.load(tmp_path)


def test_mixture_when_items_are_added_then_each_expert_takes_its_codebooks() -> None:
    mixture = tiny_mixture()
    mixture.set_items(np.concatenate([mixture.codes_NM(), mixture.codes_NM()[:1]]))
    assert mixture.num_items == 21
    log_prob_BN = token_log_probs(mixture)(histories())
    np.testing.assert_allclose(log_prob_BN[:, 20], log_prob_BN[:, 0], rtol=1e-6)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 1.0, 1.0]])
def test_mixture_when_weights_do_not_match_the_experts_then_it_is_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="one weight for each expert"):
        TokenMixture({"first": tiny_model(), "second": tiny_model(seed=1)}, weights)


@pytest.mark.parametrize("order", [("own", "other", "student"), ("student", "other", "own")])
def test_mixture_when_experts_read_the_same_codebooks_then_these_stand_once_and_code_logits_add_up(
    tmp_path: Path, order: tuple[str, ...]
) -> None:
    other_NM = np.stack([np.arange(20) // 4, np.arange(20) * 3 % 5, np.arange(20) % 4], axis=1)
    experts = {"own": tiny_model(), "other": tiny_model(other_NM, seed=1), "student": tiny_model(seed=2)}
    mixture = TokenMixture({name: experts[name] for name in order}, [0.5, 0.3, 0.2], {"student": "own"}).eval()
    assert (mixture.layout.num_codebooks, set(mixture.owners)) == (2 + 3, {"own", "other"})
    codes_NM = mixture.codes_NM()
    with torch.inference_mode():
        codes_BMK = mixture.code_logits(histories())
        logits_BN = mixture.queries(histories()) @ mixture.item_keys().T
    for item, codes_M in enumerate(codes_NM.tolist()):
        torch.testing.assert_close(
            logits_BN[:, item], sum(codes_BMK[:, book, code] for book, code in enumerate(codes_M))
        )
    mixture.save(tmp_path)
    loaded = TokenMixture.load(tmp_path)
    assert loaded.codebooks == mixture.codebooks
    loaded.set_items(np.concatenate([codes_NM, codes_NM[:1]]))
    log_prob_BN = token_log_probs(loaded)(histories())
    np.testing.assert_allclose(log_prob_BN[:, 20], log_prob_BN[:, 0], rtol=1e-6)


def test_mixture_when_an_expert_reads_the_codebooks_of_nobody_then_it_is_refused() -> None:
    with pytest.raises(ValueError, match="of an expert that has its own"):
        TokenMixture({"first": tiny_model(), "second": tiny_model()}, [1.0, 1.0], {"second": "third"})
