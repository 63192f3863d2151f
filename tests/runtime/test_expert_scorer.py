"""Token experts score in the runtime as in torch, come back from their files, and refuse codebooks of others."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.contracts import History, empty_history
from recsys.core.errors import ArtifactError
from recsys.model.tokens.mixture import TokenMixture, token_log_probs
from recsys.runtime.expert_scorer import ExpertScorer
from recsys.runtime.experts import codebooks_of, load_experts, save_experts
from recsys.runtime.export import export_experts
from tests.runtime.worlds import HOUR, history_of
from tests.support.tiny_tokens import SHAPE, tiny_mixture, tiny_model

ITEMS, CODES = 20, 5
TOLERANCE = 2e-4
"""Largest difference of two log-probabilities, of how far the largest lies above the least: numbers of 16 bits."""


def _experts() -> TokenMixture:
    """Return three experts in which nothing is zero; the last one reads the first one's codebooks."""
    first, second = tiny_mixture().models()
    mixture = TokenMixture(
        {"first": first, "second": second, "third": tiny_model(seed=2)}, [1, 1, 1], {"third": "first"}
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in mixture.parameters():
            weight.add_(0.3 * torch.randn(weight.shape))
    for model in mixture.models():
        model.set_calendar(np.arange(1000) * HOUR)
    return mixture.eval()


MIXTURE = _experts()
CODES_NM = MIXTURE.codes_NM()
EXPERTS = export_experts(MIXTURE)
SCORER = ExpertScorer(EXPERTS, CODES_NM, CODES)
REFERENCE = {name: token_log_probs(model) for name, model in zip(MIXTURE.codebooks, MIXTURE.models(), strict=True)}


@given(
    name=st.sampled_from(sorted(REFERENCE)),
    items=st.lists(st.integers(0, ITEMS - 1), max_size=12),
    gaps=st.lists(st.integers(0, 400), min_size=12, max_size=12),
)
def test_log_probs_when_asked_for_any_history_then_equals_torch(name: str, items: list[int], gaps: list[int]) -> None:
    history = history_of(items, gaps)
    expected_BN = REFERENCE[name]([history])
    tolerance = TOLERANCE * float(np.ptp(expected_BN))
    np.testing.assert_allclose(SCORER.sources()[name]([history]), expected_BN, atol=tolerance, rtol=0)


def test_log_probs_when_items_share_all_codes_then_they_are_equal_to_the_bit() -> None:
    codes_NM = np.concatenate([CODES_NM] * 9)  # 180 items, so that vector instructions take most and scalars the rest
    grown = ExpertScorer(EXPERTS, codes_NM, CODES)
    for name in REFERENCE:
        rows_RN = grown.log_probs(name, [history_of([1, 2], [3, 4])]).reshape(9, ITEMS)
        assert (rows_RN == rows_RN[0]).all()


def test_log_probs_when_several_histories_come_at_once_then_each_has_its_own_scores() -> None:
    histories = [history_of([1, 2], [5, 5]), empty_history(), history_of([4], [9])]
    alone = [SCORER.log_probs("second", [history])[0] for history in histories]
    np.testing.assert_array_equal(SCORER.log_probs("second", histories), np.stack(alone))


def test_log_probs_when_codes_take_more_than_a_byte_then_equals_torch() -> None:
    codes_NM = np.stack([np.arange(20) * 15, 299 - np.arange(20)], axis=1)
    model = tiny_model(codes_NM, size=300)
    scorer = ExpertScorer(export_experts(TokenMixture({"wide": model}, [1.0])), codes_NM, 300)
    history = history_of([1, 19], [2, 50])
    expected_BN = token_log_probs(model)([history])
    tolerance = TOLERANCE * float(np.ptp(expected_BN))
    np.testing.assert_allclose(scorer.log_probs("wide", [history]), expected_BN, atol=tolerance, rtol=0)


def test_log_probs_when_an_expert_has_no_transitions_then_equals_torch() -> None:
    model = tiny_model(shape=SHAPE.model_copy(update={"transition_width": 0}))
    scorer = ExpertScorer(export_experts(TokenMixture({"plain": model}, [1.0])), model.token_NM.numpy() % CODES, CODES)
    history = history_of([1, 19], [2, 50])
    expected_BN = token_log_probs(model)([history])
    tolerance = TOLERANCE * float(np.ptp(expected_BN))
    np.testing.assert_allclose(scorer.log_probs("plain", [history]), expected_BN, atol=tolerance, rtol=0)


def test_codebooks_of_when_an_expert_reads_those_of_another_then_has_its_columns() -> None:
    # two codebooks of the first, three of the second
    assert codebooks_of(EXPERTS) == {"first": slice(0, 2), "second": slice(2, 5), "third": slice(0, 2)}


def test_log_probs_when_a_history_comes_again_then_it_is_encoded_once_until_forgotten() -> None:
    scorer, encoded = ExpertScorer(EXPERTS, CODES_NM, CODES, kept_states=2), []
    inner = scorer._encoded

    def note(group: Any, history: History) -> dict[str, np.ndarray]:
        encoded.append(history)
        return inner(group, history)

    scorer._encoded = note
    history = history_of([1, 2], [5, 5])
    first = scorer.log_probs("first", [history])
    np.testing.assert_array_equal(scorer.log_probs("first", [history]), first)
    scorer.log_probs("third", [history])  # all experts read a history at once
    assert len(encoded) == 1
    scorer.forget()
    scorer.log_probs("first", [history])
    assert len(encoded) == 2


def test_log_probs_when_experts_are_in_groups_then_scores_are_the_same_and_others_are_left_out() -> None:
    grouped = ExpertScorer(EXPERTS, CODES_NM, CODES, groups=[["third"], ["second"]])
    assert sorted(grouped.sources()) == ["second", "third"]
    for history in (history_of([1, 2], [5, 5]), empty_history()):
        for name, source in grouped.sources().items():
            np.testing.assert_allclose(source([history]), SCORER.log_probs(name, [history]), atol=TOLERANCE)


@pytest.mark.parametrize("item", [-1, ITEMS])
def test_log_probs_when_an_item_is_not_of_the_catalogue_then_it_is_refused(item: int) -> None:
    with pytest.raises(IndexError, match="from 0 to 19"):
        SCORER.log_probs("first", [history_of([1, item], [1, 1])])


def test_experts_when_saved_and_loaded_then_score_as_before(tmp_path: Path) -> None:
    save_experts(EXPERTS, tmp_path / "experts")
    loaded = ExpertScorer(load_experts(tmp_path / "experts"), CODES_NM, CODES)
    history = history_of([1, 2, 2], [3, 4, 5])
    for name in REFERENCE:
        np.testing.assert_allclose(loaded.log_probs(name, [history]), SCORER.log_probs(name, [history]), atol=TOLERANCE)


def test_load_experts_when_a_file_is_not_as_it_was_written_then_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "experts"
    save_experts(EXPERTS, folder)
    whole = json.loads((folder / "config.json").read_text())
    stranger = [{**whole["experts"][0], "codebooks": "nobody"}]
    for text, message in (
        (json.dumps({**whole, "format": 99}), "format 2, got 99"),
        (json.dumps({**whole, "experts": [{**whole["experts"][0], "name": "x"}]}), "x.input_KD"),
        (json.dumps({**whole, "experts": stranger}), "nobody"),
        ("[]", "make the bundle again"),
    ):
        (folder / "config.json").write_text(text)
        with pytest.raises(ArtifactError, match=message):
            load_experts(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ArtifactError, match="must exist"):
        load_experts(folder)


@pytest.mark.parametrize(
    ("codes_NM", "size"),
    [(CODES_NM[:, :4], CODES), (CODES_NM, 6), (CODES_NM + 1, CODES), (CODES_NM - 1, CODES)],
    ids=["a codebook less", "larger codebooks", "a code too high", "a code below 0"],
)
def test_scorer_when_the_catalogue_is_of_other_codebooks_then_it_is_refused(codes_NM: np.ndarray, size: int) -> None:
    with pytest.raises(ArtifactError, match="make the bundle again"):
        ExpertScorer(EXPERTS, codes_NM, size)
