"""Token experts, their catalogue, and what validation chose: a recommender, whatever computes the experts.

Free of torch, as a server is.

Axes: I new item.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from recsys.codes.catalogue import Catalogue
from recsys.codes.validity import ValidityIndex
from recsys.contracts import ItemScores
from recsys.core.arrays import IntArray
from recsys.core.artifacts import require
from recsys.core.config import Config, read_config
from recsys.decoding.config import MarginalSearchConfig
from recsys.decoding.item_probabilities import Categories, Searcher
from recsys.recommender.evidence import Evidence, NewItemEvidence
from recsys.recommender.shared_codes import SharedCodes
from recsys.recommender.token_recommender import TokenRecommender

HEAD = "head"
"""The name of the item head among the sources of evidence."""
CHOICES = "choices.json"


class NewItemChoice(Config):
    """Which expert alone scores items without training events."""

    expert: str
    """An expert whose codes are those that items have as new."""
    trained: int = Field(ge=0)
    """How many items the experts were trained on: those behind them are new."""
    without_events: tuple[int, ...] = ()
    """Items before them that had no training events."""
    bonus: float = 0.0
    """What is added to these items' log-probabilities."""
    share: float = Field(default=0.0, ge=0, le=1)
    """The share of a slate's places that is kept for these items (see :mod:`recsys.decoding.kept_places`)."""
    likeness: float = Field(default=0.0, ge=0)
    """What a shared code counts among these items (see :class:`recsys.recommender.shared_codes.SharedCodes`)."""

    def any_among(self, num_items: int) -> bool:
        """Return whether some of so many items are new."""
        return bool(self.without_events) or num_items > self.trained

    def evidence(self, codes_NM: IntArray) -> NewItemEvidence:
        """Return what counts for the new ones among items with these codes of the expert's.

        Shape:
            codes_NM: (items, codebooks of the expert).
        """
        later_I = np.arange(self.trained, len(codes_NM))
        item_I = np.concatenate([np.asarray(self.without_events, np.int64), later_I])
        likeness = SharedCodes(codes_NM, item_I, weight=self.likeness) if self.likeness else None
        return NewItemEvidence(source=self.expert, item_I=item_I, bonus=self.bonus, share=self.share, likeness=likeness)


class TokenChoices(Config):
    """What validation chose: weights of the experts that search, of the sources that rank, and the search."""

    token_weights: dict[str, float]
    """Weights of the experts' log-probabilities in the mixture of tokens alone; their sum is the factor by which the
    mixture is sharpened so that its probabilities are likeliest on validation."""
    rank_weights: dict[str, float]
    """Weights of the experts' and the item head's log-probabilities in the score that ranks."""
    paths_by: Literal["tokens", "all"]
    """Whose probabilities paths are searched by: those of tokens alone, or those of all evidence, which ranks."""
    sharpness: float = Field(default=1.0, gt=0)
    """The factor of the score that ranks under which its probabilities are likeliest on validation."""
    search: MarginalSearchConfig
    """How paths are searched."""
    new_items: NewItemChoice | None = None
    """What scores items without training events; without a choice all sources do."""
    validation: dict[str, float]
    """On validation users: NDCG@10, seen items removed, of each source alone and of what was tried, and how far first
    items fall without facets (see :class:`recsys.recommender.faithfulness.Faithfulness`)."""

    @property
    def search_weights(self) -> dict[str, float]:
        """Weights of the log-probabilities whose sum decides the steps of paths."""
        if self.paths_by == "tokens":
            return self.token_weights
        return {name: self.sharpness * weight for name, weight in self.rank_weights.items()}

    @classmethod
    def load(cls, folder: Path) -> "TokenChoices":
        """Read the choices from a folder of token models.

        Raises:
            ArtifactError: it has none, or those of another version.
        """
        return read_config(cls, require(folder / CHOICES, remedy="train the run with experts to make it"))


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenExperts(ABC):
    """Token experts, their catalogue, and the choices that make recommenders of them."""

    catalogue: Catalogue
    choices: TokenChoices

    @abstractmethod
    def sources(self) -> Mapping[str, ItemScores]:
        """Return each expert's log-probabilities by its name."""

    @abstractmethod
    def codebooks(self, expert: str) -> slice:
        """Return the columns of the catalogue's codes that an expert reads."""

    @abstractmethod
    def searcher(self, index: ValidityIndex) -> Searcher:
        """Return what searches paths over the catalogue's index."""

    def recommender(
        self, name: str, rank_weights: dict[str, float], *, head: ItemScores | None = None, trace: bool = False
    ) -> TokenRecommender:
        """Return a recommender that searches as validation chose, and ranks by weights of its own.

        Without the item head its paths are searched by tokens alone.

        Args:
            name: what it is called in tables.
            rank_weights: weights of the experts, and of the item head where it is given.
            head: the item head's log-probabilities.
            trace: whether items come with their paths.
        """
        sources = {**self.sources(), **({} if head is None else {HEAD: head})}
        searching = self.choices.token_weights if head is None else self.choices.search_weights
        index = ValidityIndex(self.catalogue.codes_NM, self.catalogue.layout.codebook_size)
        chosen = self.choices.new_items
        new_items = None
        if chosen is not None:
            new_items = chosen.evidence(self.catalogue.codes_NM[:, self.codebooks(chosen.expert)])
        return TokenRecommender(
            name,
            Evidence(sources, search_weights=searching, rank_weights=rank_weights, new_items=new_items),
            index,
            Categories(category_N=self.catalogue.category_N, count=self.catalogue.num_categories),
            self.choices.search,
            trace=trace,
            searcher=self.searcher(index),
        )

    def served(self, name: str, head: ItemScores, *, trace: bool = False) -> TokenRecommender:
        """Return what is served: paths propose and all evidence ranks, the whole catalogue where it is set."""
        return self.recommender(name, self.choices.rank_weights, head=head, trace=trace)
