"""The generator: batches of histories, saving and loading."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from recsys.contracts import History
from recsys.core.errors import ArtifactError
from recsys.model.cooccurrence_prior import CooccurrencePrior
from recsys.model.generator import Generator
from tests.support.cycle_world import cycle_log, tiny_generator


def test_encode_when_batched_with_longer_histories_then_equals_alone() -> None:
    generator = tiny_generator()
    histories = [History(items=np.arange(n), timestamps=np.arange(n) * 100) for n in (0, 2, 5, 9)]
    with torch.inference_mode():
        together = generator.encode(histories).own_BD
        alone = torch.cat([generator.encode([history]).own_BD for history in histories])
    assert torch.allclose(together, alone, atol=1e-5)


def test_generator_when_saved_then_automodel_loads_it_equal(tmp_path) -> None:  # type: ignore[no-untyped-def]
    generator = tiny_generator(prior=CooccurrencePrior.of(cycle_log()))
    generator.history.set_calendar(cycle_log().timestamps_E)
    generator.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    history = [History(items=np.array([3, 4]), timestamps=np.array([0, 60]))]
    items = [history[0].items]
    with torch.inference_mode():
        assert torch.equal(
            again.item_log_probs(again.encode(history), items),
            generator.item_log_probs(generator.encode(history), items),
        )
        assert all(prior_BN.sum() > 0 for prior_BN in again.head.prior().scores(items))
    assert torch.equal(again.codes_NM, generator.codes_NM)


def test_load_when_a_weight_is_missing_then_says_train_again(tmp_path) -> None:  # type: ignore[no-untyped-def]
    generator = tiny_generator()
    generator.save(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["history.calendar_in.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=r"calendar_in\.weight.*train the run again"):
        Generator.load(tmp_path)
