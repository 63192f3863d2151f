"""A small real generator on a circle of items, and what alignment needs around it."""

import numpy as np

from recsys.alignment.align import align, build_rubric
from recsys.alignment.collector import RolloutCollector
from recsys.alignment.config import AlignmentConfig, SupervisedConfig
from recsys.alignment.policy import PathPolicy
from recsys.alignment.prompts import draw_prompts
from recsys.codes.validity import ValidityIndex
from recsys.data.events import EventLog
from tests.support.cycle_world import generator_of

ITEMS, BOOKS, SIZE, CATEGORIES = 12, 3, 4, 3


def make_log(lengths, *, num_items=None):
    # Every event is an item of its own, so that an item tells which event it was.
    count = int(sum(lengths))
    return EventLog(
        offsets_U1=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items_E=np.arange(count),
        timestamps_E=np.arange(count),
        num_items=num_items or count,
    )


def circle():
    codes_NM = np.unique(np.random.default_rng(0).integers(0, SIZE, (40, BOOKS)), axis=0)[:ITEMS]
    generator = generator_of(codes_NM, codebook_size=SIZE)
    users = 30
    items_E = np.concatenate([(start + np.arange(8)) % ITEMS for start in np.arange(users) % ITEMS])
    log = EventLog(
        offsets_U1=np.arange(users + 1) * 8,
        items_E=items_E,
        timestamps_E=np.arange(users * 8),
        num_items=ITEMS,
    )
    return generator, log


def make_policy(generator, log, *, guidance=0.8):
    prompts = draw_prompts(log, count=10, window=2, rng=np.random.default_rng(0))
    validity = ValidityIndex(generator.codes_NM.numpy(), SIZE)
    return PathPolicy(generator, validity=validity, prompts=prompts, guidance=guidance)


def make_collector(policy, prompts, config):
    codewords_MKD = np.random.default_rng(0).normal(size=(BOOKS, SIZE, 5)).astype(np.float32)
    codes_NM = policy.backbone.generator.codes_NM.numpy()
    category_N = np.arange(ITEMS) % CATEGORIES
    rubric = build_rubric(config, codewords_MKD=codewords_MKD, codes_NM=codes_NM, category_N=category_N)
    return RolloutCollector(policy, prompts, rubric, config=config, seed=1)


CONFIG = AlignmentConfig(
    steps=4,
    prompts_per_step=4,
    group_size=4,
    learning_rate=1e-2,
    schedule="constant",
    dropout=False,
    latest_events=0,
    top_n=1,
    window=2,
    decay=0.8,
    probe_prompts=16,
    supervised=SupervisedConfig(weight=0.0),
)


def run(world, config, folder, seed=3):
    generator, log = world
    codewords = np.random.default_rng(0).normal(size=(BOOKS, SIZE, 5)).astype(np.float32)
    category_N = np.arange(ITEMS) % CATEGORIES
    return align(
        generator, log, config=config, seed=seed, codewords_MKD=codewords, category_N=category_N, folder=folder
    )
