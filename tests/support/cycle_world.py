"""A world in which everybody walks the circle of items, and a generator small enough to learn it in a second."""

import numpy as np
import torch

from recsys.core.arrays import IntArray
from recsys.data.events import EventLog, build_log
from recsys.model.config import GeneratorConfig
from recsys.model.cooccurrence_prior import CooccurrencePrior
from recsys.model.generator import Generator

SHAPE = {"width": 16, "code_width": 4, "decoder_width": 32, "layers": 1, "heads": 2, "max_history": 6}


def tiny_generator(num_items: int = 20, seed: int = 0, prior: CooccurrencePrior | None = None) -> Generator:
    """Return a fresh generator whose items have two codes of five."""
    codes_NM = np.stack([np.arange(num_items) % 5, np.arange(num_items) // 5 % 5], axis=1)
    return generator_of(codes_NM, codebook_size=5, seed=seed, prior=prior)


def generator_of(
    codes_NM: IntArray, *, codebook_size: int, seed: int = 0, prior: CooccurrencePrior | None = None
) -> Generator:
    """Return a fresh generator of a few thousand weights with these codes and three categories."""
    torch.manual_seed(seed)
    prior = prior or CooccurrencePrior(tables=())
    config = GeneratorConfig(
        num_items=len(codes_NM),
        num_codebooks=codes_NM.shape[1],
        codebook_size=codebook_size,
        num_categories=3,
        shape=SHAPE,
        prior_pairs=[table.nnz for table in prior.tables],
    )
    generator = Generator(config)
    generator.head.set_prior(prior)
    generator.codes_NM.copy_(torch.from_numpy(codes_NM))
    return generator.eval()


def cycle_log(num_users: int = 40, num_items: int = 20, length: int = 9) -> EventLog:
    """Everybody walks the circle of items from a different start."""
    users = np.repeat(np.arange(num_users), length)
    steps = np.tile(np.arange(length), num_users)
    return build_log(users, (users + steps) % num_items, steps * 3600, steps, num_users=num_users, num_items=num_items)


def log_of(histories: list[list[int]], num_items: int) -> EventLog:
    """Return the log of users with these items, an event a second."""
    items_E = np.array([item for items in histories for item in items], dtype=np.int64)
    return EventLog(
        offsets_U1=np.concatenate([[0], np.cumsum([len(items) for items in histories])]).astype(np.int64),
        items_E=items_E,
        timestamps_E=np.arange(len(items_E), dtype=np.int64),
        num_items=num_items,
    )
