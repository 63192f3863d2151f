"""A synthetic data set: items with facets, users whose preferences drift.

Axes: U user, N item, F facet, V value of a facet, E event.
"""

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from recsys.core.arrays import BoolArray, IntArray
from recsys.core.config import Config
from recsys.core.seeds import rng_for
from recsys.data import schema
from recsys.data.columns import text_of
from recsys.data.table import Dataset, build_dataset

_VALUES = (
    ("kitchen", "garden", "office", "bedroom", "bathroom", "garage"),
    ("rustic", "modern", "classic", "nordic", "industrial", "retro"),
    ("red", "blue", "green", "black", "white", "yellow"),
    ("oak", "steel", "glass", "linen", "wool", "clay"),
)
_BRANDS = ("Alder", "Birke", "Cedro", "Duna", "Elmo", "Fjord")
_NUM_VALUES = len(_BRANDS)
_START = 1_700_000_000
_DAY = 86_400


class SyntheticConfig(Config):
    """Size of a synthetic data set, and how its users choose."""

    users: int = Field(default=400, ge=1)
    """How many users there are."""

    items: int = Field(default=300, ge=1)
    """How many items there are."""

    facets: int = Field(default=3, ge=1, le=len(_VALUES))
    """How many facets an item has: room, style, colour, material, in this order."""

    min_events: int = Field(default=15, ge=1)
    """The fewest events of a user."""

    max_events: int = Field(default=40, ge=1)
    """The most events of a user."""

    affinity: float = Field(default=1.5, ge=0)
    """Standard deviation, in log-odds, of a user's preferences for a facet's values."""

    drift: float = Field(default=0.15, ge=0)
    """Standard deviation of a preference's change at each event."""

    stickiness: float = Field(default=1.0, ge=0)
    """How much more likely an item is for each facet value it shares with the previous one (log-odds)."""

    seed: int = 0
    """Root of all randomness."""

    @model_validator(mode="after")
    def _events_fit(self) -> "SyntheticConfig":
        if not self.min_events <= self.max_events <= self.items:
            raise ValueError(
                f"min_events <= max_events <= items must hold, got {self.min_events}, {self.max_events}, "
                f"{self.items}; raise items or lower max_events"
            )
        return self


def make_synthetic(config: SyntheticConfig) -> Dataset:
    """Return a synthetic data set; equal configurations give equal data sets."""
    value_NF = rng_for(config.seed, "items").integers(0, _NUM_VALUES, (config.items, config.facets))
    item_UE, length_U = _walks(value_NF, config)
    rng = rng_for(config.seed, "times")
    start_U1 = rng.integers(0, 30 * _DAY, (config.users, 1))
    time_UE = _START + start_U1 + np.cumsum(rng.integers(60, 2 * _DAY, item_UE.shape), axis=1)
    there_UE = np.arange(item_UE.shape[1]) < length_U[:, None]
    user_UE = np.broadcast_to(np.arange(config.users)[:, None], item_UE.shape)
    user_E, item_E, time_E = user_UE[there_UE], item_UE[there_UE], time_UE[there_UE]
    by_time = np.argsort(time_E, kind="stable")
    rows = pa.table(
        {
            schema.USER: user_E[by_time] + 1,
            schema.ITEM: item_E[by_time] + 1,
            schema.TIMESTAMP: time_E[by_time],
        }
    )
    return build_dataset(rows, _items(value_NF, rng_for(config.seed, "brands")), where="synthetic")


def _walks(value_NF: IntArray, config: SyntheticConfig) -> tuple[IntArray, IntArray]:
    """Let users choose items one by one, none twice; shapes (users, max_events) and (users,)."""
    rng = rng_for(config.seed, "walks")
    one_hot_NFV = np.eye(_NUM_VALUES)[value_NF]
    traits_NK = one_hot_NFV.reshape(config.items, -1)
    taste_UK = config.affinity * rng.standard_normal((config.users, traits_NK.shape[1]))
    length_U = rng.integers(config.min_events, config.max_events + 1, config.users)
    seen_UN: BoolArray = np.zeros((config.users, config.items), dtype=np.bool_)
    item_UE = np.zeros((config.users, config.max_events), dtype=np.int64)
    everyone = np.arange(config.users)
    for step in range(config.max_events):
        logit_UN = taste_UK @ traits_NK.T
        if step > 0:
            logit_UN += config.stickiness * (traits_NK[item_UE[:, step - 1]] @ traits_NK.T)
        logit_UN[seen_UN] = -np.inf
        item_UE[:, step] = np.argmax(logit_UN + rng.gumbel(size=logit_UN.shape), axis=1)
        seen_UN[everyone, item_UE[:, step]] = True
        taste_UK += config.drift * rng.standard_normal(taste_UK.shape)
    return item_UE, length_U


def _items(value_NF: IntArray, rng: np.random.Generator) -> pa.Table:
    """Name the items after their facets; the brand follows the last facet for nine items of ten."""
    words = [[_VALUES[f][v] for f, v in enumerate(row)] for row in value_NF]
    stray_N = rng.random(len(words)) < 0.1
    brand_N = np.where(stray_N, rng.integers(0, _NUM_VALUES, len(words)), value_NF[:, -1])
    brands = [_BRANDS[b] for b in brand_N]
    met: dict[str, int] = {}
    titles = []
    for row in words:
        name = " ".join(reversed(row))
        met[name] = met.get(name, 0) + 1
        titles.append(f"{name} {met[name]}")
    return pa.table(
        {
            schema.ITEM: np.arange(1, len(words) + 1),
            schema.TITLE: titles,
            schema.BRAND: brands,
            schema.CATEGORIES: pa.array(words, pa.list_(pa.string())),
            schema.TEXT: [
                text_of(title=t, brand=b, categories=c) for t, b, c in zip(titles, brands, words, strict=True)
            ],
        }
    )
