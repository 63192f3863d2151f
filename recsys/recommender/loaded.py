"""The interface of every loaded bundle, by torch or by the runtime."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

from recsys.codes.catalogue import Catalogue
from recsys.contracts import Scorer
from recsys.data.vocabulary import Vocabulary
from recsys.recommender.evidence import head_of
from recsys.recommender.manifest import BundleManifest
from recsys.recommender.reasoning import ReasoningRecommender
from recsys.recommender.token_experts import TokenExperts
from recsys.recommender.token_recommender import TokenRecommender

_Scorer = TypeVar("_Scorer", bound=Scorer)


def served(
    generative: ReasoningRecommender[_Scorer], tokens: TokenExperts | None
) -> ReasoningRecommender[_Scorer] | TokenRecommender:
    """Return the recommender that is served: the generator, or the token experts with its item head beside them."""
    if tokens is None:
        return generative
    return tokens.served(generative.name, head_of(generative.scorer), trace=generative.trace)


@dataclass(frozen=True, kw_only=True)
class LoadedBundle(Generic[_Scorer]):
    """A bundle's model, with the catalogue and the version that its answers name."""

    folder: Path
    generative: ReasoningRecommender[_Scorer]
    """The generator: its item head ranks, by itself or as one source of evidence beside the experts."""
    tokens: TokenExperts | None
    manifest: BundleManifest

    @cached_property
    def recommender(self) -> ReasoningRecommender[_Scorer] | TokenRecommender:
        """The recommender that is served."""
        return served(self.generative, self.tokens)

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue in the codes that the served recommender's paths name."""
        return self.generative.catalogue if self.tokens is None else self.tokens.catalogue

    @property
    def explains_search(self) -> bool:
        """Whether only paths that the search took stand beside items, so that an item may have none."""
        return self.tokens is not None

    @property
    def model_version(self) -> str:
        """The version that the manifest names."""
        return self.manifest.model_version

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The ids of the catalogue's items."""
        return Vocabulary(self.catalogue.item_ids)

    @cached_property
    def ranker(self) -> ReasoningRecommender[_Scorer] | TokenRecommender:
        """The same model and the same slates without paths."""
        return self.recommender.untraced()
