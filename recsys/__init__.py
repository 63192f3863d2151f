"""recsys: from a log of interactions to ranked items, by reasoning over item tokens in a free order.

The names below are the public surface; each is loaded on first use so that ``import recsys`` stays light.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "History": "recsys.contracts",
    "Path": "recsys.contracts",
    "Recommender": "recsys.contracts",
    "Request": "recsys.contracts",
    "Slate": "recsys.contracts",
    "Step": "recsys.contracts",
    "ItemScorer": "recsys.contracts",
    "StepScorer": "recsys.contracts",
    "RecsysError": "recsys.core.errors",
    "Catalogue": "recsys.codes.catalogue",
    "ValidityIndex": "recsys.codes.validity",
    "EventLog": "recsys.data.events",
    "MPQTokenizer": "recsys.tokenizer.mpq",
    "Generator": "recsys.model.generator",
    "ReasoningRecommender": "recsys.recommender.reasoning",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    """Load a public name from its home module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'recsys' has no attribute {name!r}; public names are {sorted(_HOMES)}")
    return getattr(import_module(_HOMES[name]), name)
