"""A world in which everybody walks the circle of items, and a generator small enough to learn it in a second."""

import numpy as np
import torch

from recsys.data.events import EventLog, build_log
from recsys.model.config import GeneratorConfig
from recsys.model.cooccurrence_prior import CooccurrencePrior
from recsys.model.generator import Generator

SHAPE = {"width": 16, "code_width": 4, "decoder_width": 32, "layers": 1, "heads": 2, "max_history": 6}


def tiny_generator(num_items: int = 20, seed: int = 0, prior: CooccurrencePrior | None = None) -> Generator:
    torch.manual_seed(seed)
    prior = prior or CooccurrencePrior(tables=())
    config = GeneratorConfig(
        num_items=num_items,
        num_codebooks=2,
        codebook_size=5,
        num_categories=3,
        shape=SHAPE,
        prior_pairs=[table.nnz for table in prior.tables],
    )
    generator = Generator(config)
    generator.set_prior(prior)
    codes_NM = np.stack([np.arange(num_items) % 5, np.arange(num_items) // 5 % 5], axis=1)
    generator.codes_NM.copy_(torch.from_numpy(codes_NM))
    return generator.eval()


def cycle_log(num_users: int = 40, num_items: int = 20, length: int = 9) -> EventLog:
    """Everybody walks the circle of items from a different start."""
    users = np.repeat(np.arange(num_users), length)
    steps = np.tile(np.arange(length), num_users)
    return build_log(users, (users + steps) % num_items, steps * 3600, steps, num_users=num_users, num_items=num_items)
