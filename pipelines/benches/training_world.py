"""What benches of pre-training train on: a run's log and codes, or a made-up log with random codes.

Axes: E event, N item, M codebook, U user.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipelines.recipe import load_recipe
from recsys.codes.catalogue import Catalogue
from recsys.core.arrays import IntArray
from recsys.core.artifacts import require
from recsys.core.device import Precision
from recsys.core.seeds import rng_for
from recsys.data.events import EventLog, build_log
from recsys.data.prepare import load_prepared
from recsys.data.splits import training_log
from recsys.model.config import FitConfig, GeneratorConfig, ModelConfig
from recsys.model.cooccurrence_prior import CooccurrencePrior
from recsys.model.fit import Pretrainer
from recsys.model.generator import Generator
from recsys.model.pruning import Pruning

MEAN_EVENTS, LONGEST = 7, 50
"""Lengths of made-up histories are geometric with this mean: Amazon-2014 Beauty has 6.9 training events a user."""
CODEBOOKS, CODES, CATEGORIES, STRIDE = 8, 256, 40, 5
START, DAY = 1_700_000_000, 86_400


@dataclass(frozen=True, kw_only=True)
class TrainingWorld:
    """A training log, its items' codes and categories, and the settings of a generator and of its pre-training.

    Shape:
        codes_NM: (items, codebooks).
        category_N: (items,).
    """

    log: EventLog
    codes_NM: IntArray
    category_N: IntArray
    codebook_size: int
    num_categories: int
    shape: ModelConfig
    fit: FitConfig

    @classmethod
    def of_run(cls, run: Path) -> "TrainingWorld":
        """Return a run's, without its co-occurrence prior."""
        recipe = load_recipe(str(require(run / "recipe.toml", remedy=f"run `recsys train DATA --to {run}` first")))
        catalogue = Catalogue.load(run / "catalog")
        return cls(
            log=training_log(load_prepared(run / "data").log),
            codes_NM=catalogue.codes_NM,
            category_N=catalogue.category_N,
            codebook_size=catalogue.layout.codebook_size,
            num_categories=catalogue.num_categories,
            shape=recipe.model,
            fit=recipe.fit,
        )

    @classmethod
    def made_up(cls, users: int, items: int) -> "TrainingWorld":
        """Return users who walk the circle of items by steps of 1 to 5 from a random start, and random codes."""
        rng = rng_for(0, "bench", "walks")
        length_U = np.minimum(rng.geometric(1 / MEAN_EVENTS, users), LONGEST)
        user_E = np.repeat(np.arange(users), length_U)
        place_E = np.arange(len(user_E)) - np.repeat(np.cumsum(length_U) - length_U, length_U)
        walked_E = np.cumsum(rng.integers(1, STRIDE + 1, len(user_E)))
        item_E = (rng.integers(items, size=users)[user_E] + walked_E) % items
        time_E = START + place_E * DAY
        log = build_log(user_E, item_E, time_E, place_E, num_users=users, num_items=items)
        return cls._with_drawn_codes(log, rng)

    @classmethod
    def with_random_codes(cls, log: EventLog) -> "TrainingWorld":
        """Return a log whose items have random codes, for what is measured does not depend on them."""
        return cls._with_drawn_codes(log, rng_for(0, "bench", "codes"))

    @classmethod
    def _with_drawn_codes(cls, log: EventLog, rng: np.random.Generator) -> "TrainingWorld":
        items = log.num_items
        return cls(
            log=log,
            codes_NM=rng.integers(0, CODES, (items, CODEBOOKS)),
            category_N=np.arange(items) * CATEGORIES // items,
            codebook_size=CODES,
            num_categories=CATEGORIES,
            shape=ModelConfig(),
            fit=FitConfig(),
        )

    def trainer(
        self,
        precision: Precision = "auto",
        *,
        device: torch.device | None = None,
        pruning: Pruning | None = None,
        prior: CooccurrencePrior | None = None,
        seed: int = 0,
    ) -> Pretrainer:
        """Return a fresh pre-training; all that a world returns for a seed start from the same weights."""
        prior = prior or CooccurrencePrior(tables=())
        torch.manual_seed(seed)
        generator = Generator(
            GeneratorConfig(
                num_items=len(self.codes_NM),
                num_codebooks=self.codes_NM.shape[1],
                codebook_size=self.codebook_size,
                num_categories=self.num_categories,
                shape=self.shape.model_dump(),
                prior_pairs=[table_NN.nnz for table_NN in prior.tables],
            )
        )
        generator.head.set_prior(prior)
        generator.codes_NM.copy_(torch.from_numpy(self.codes_NM))
        generator.history.set_calendar(self.log.timestamps_E)
        generator = generator.to(device or torch.device("cpu"))
        log, category_N = self.log, self.category_N
        return Pretrainer(generator, log, category_N, self.fit, seed=seed, precision=precision, pruning=pruning)
