"""Generators with random weights everywhere, for the comparison of the runtime with torch."""

import numpy as np
import torch

from recsys.contracts import History
from recsys.model.cooccurrence_prior import CooccurrencePrior, likeness_table
from recsys.model.generator import Generator
from recsys.sequence.id_transformer import IdTransformer, IdTransformerConfig
from tests.support.cycle_world import cycle_log, tiny_generator

ITEMS = 20
HOUR = 3600


def random_generator(
    *, share: float = 0.0, prior: bool = True, seed: int = 0, logits: str = "cosine", members: int = 1
) -> Generator:
    """Return a tiny generator in which nothing is zero: calendars, biases by time, biases of items and of repeats."""
    likeness = likeness_table(np.random.default_rng(5).standard_normal((ITEMS, 6)).astype(np.float32))
    generator = tiny_generator(ITEMS, seed, CooccurrencePrior.of(cycle_log(), likeness) if prior else None)
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in generator.parameters():
            weight.add_(0.3 * torch.randn(weight.shape))
        generator.head.bias_N.normal_()
    generator.history.set_calendar(np.arange(1000) * HOUR)
    generator.config.repeat_bias = -1.5
    if share:
        config = IdTransformerConfig(width=8, max_length=generator.shape.max_history, logits=logits)
        networks = [(IdTransformer(config, ITEMS).eval(), config) for _ in range(members)]
        generator.set_members(networks, torch.tensor([3]))
        generator.config.member_share = share
    return generator.eval()


def history_of(items: list[int], gaps: list[int]) -> History:
    """Return a history with so many hours between its events."""
    seconds_T = HOUR * np.cumsum(np.array(gaps[: len(items)], np.int64))
    return History(items=np.array(items, np.int64), timestamps=seconds_T)
