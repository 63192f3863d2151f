"""Pre-training: it learns, its learning rate, and it survives a kill."""

import numpy as np
import pytest
import torch

from recsys.contracts import History
from recsys.data.splits import Questions
from recsys.model.calibrate import item_head_ndcg
from recsys.model.config import FitConfig
from recsys.model.cooccurrence_prior import CooccurrencePrior
from recsys.model.fit import Pretrainer, pretrain
from recsys.model.generator import Generator
from tests.support.cycle_world import cycle_log, tiny_generator


def fitted(tmp_path, epochs: int, stop_after: int | None = None) -> Generator:  # type: ignore[no-untyped-def]
    """Train on the circle; with ``stop_after`` the run dies after that many epochs and is started again."""
    log = cycle_log()
    histories = [log.history(user, drop_last=1) for user in range(40)]
    targets = np.array([log.history(user).items[-1] for user in range(40)])
    queries = Questions(users_U=np.arange(40), histories=histories, targets_U=targets)
    config = FitConfig(epochs=epochs, batch_positions=64, learning_rate=1e-2)
    calls = 0

    def validate(generator: Generator) -> float:
        nonlocal calls
        calls += 1
        if stop_after is not None and calls > stop_after:
            raise KeyboardInterrupt
        return item_head_ndcg(generator, queries)

    generator = tiny_generator(prior=CooccurrencePrior.of(log))
    trainer = Pretrainer(generator, log, np.arange(20) % 3, config, seed=3)
    pretrain(trainer, validate=validate, checkpoint=tmp_path / "checkpoint.pt")
    return generator


def test_pretrain_when_the_world_is_a_circle_then_learns_the_next_item(tmp_path) -> None:  # type: ignore[no-untyped-def]
    generator = fitted(tmp_path, epochs=12)
    with torch.inference_mode():
        items = np.array([4, 5, 6])
        state = generator.encode([History(items=items, timestamps=np.arange(3) * 3600)])
        scores = generator.item_log_probs(state, [items])
    scores = scores.clone()
    scores[0, [4, 5, 6]] = -torch.inf  # training takes what a user has out of the softmax
    assert scores.argmax().item() == 7


def test_learning_rate_when_the_final_phase_begins_then_starts_anew_and_lower() -> None:
    log = cycle_log()
    config = FitConfig(epochs=2, final_epochs=1, final_rate=0.25, learning_rate=0.1, batch_positions=8)
    trainer = Pretrainer(tiny_generator(), log, np.arange(20) % 3, config, seed=3)
    share = trainer._share_of_rate()
    rates = [share(step) for step in range(3 * trainer.batches)]
    assert max(rates[: 2 * trainer.batches]) > 0.9
    assert rates[2 * trainer.batches - 1] < 0.01
    assert 0.2 < max(rates[2 * trainer.batches :]) <= 0.25
    assert share(3 * trainer.batches) == 0


def test_pretrain_when_killed_then_goes_on_to_the_same_weights(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = fitted(tmp_path / "whole", epochs=4)
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "killed", epochs=4, stop_after=2)
    again = fitted(tmp_path / "killed", epochs=4)
    for name, weights in whole.state_dict().items():
        assert torch.equal(weights, again.state_dict()[name]), name
