"""The folder of a run's token models: the mixture, the catalogue in all its codebooks, and what validation chose.

model/             the mixture of experts
catalog/           every item's codes in all experts' codebooks, and words for each code
tokenizers/NAME/   from item vectors to an expert's codes, so that new items are ranked without training
choices.json       weights and search, see :class:`recsys.recommender.token_experts.TokenChoices`

Axes: N item, F feature, M codebook.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recsys.codes.catalogue import Catalogue
from recsys.codes.validity import ValidityIndex
from recsys.contracts import ItemScores
from recsys.core.arrays import FloatArray, IntArray
from recsys.core.device import Device, pick_device
from recsys.decoding.item_probabilities import Searcher
from recsys.model.tokens.mixture import TokenMixture, token_log_probs
from recsys.recommender.token_experts import CHOICES, TokenChoices, TokenExperts
from recsys.recommender.token_recommender import TokenRecommender
from recsys.runtime.path_search import compiled_searcher
from recsys.tokenizer.base import ItemTokenizer
from recsys.tokenizer.kinds import load_tokenizer

EXPERT_ALONE = "recsys: expert {name} alone"
TOKENS_EXACT = "recsys: tokens alone (exact)"
TOKENS_PATHS = "recsys: tokens alone ({paths} paths)"
PATHS_PROPOSE = "recsys: paths propose, all evidence ranks"
EVIDENCE_EXACT = "recsys: all evidence ranks the catalogue"


@dataclass(frozen=True, kw_only=True)
class Ways:
    """Two ways to rank by the same evidence: the whole catalogue, and what searched paths reach."""

    exact: TokenRecommender
    paths: TokenRecommender


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenRanker(TokenExperts):
    """Token experts by torch: saved, grown by new items, and compared with each other."""

    mixture: TokenMixture
    tokenizers: Mapping[str, ItemTokenizer]
    """By the expert whose codebooks it fills."""

    def save(self, folder: Path) -> None:
        """Write all parts into a folder."""
        self.mixture.save(folder / "model")
        self.catalogue.save(folder / "catalog")
        for name, tokenizer in self.tokenizers.items():
            (folder / "tokenizers" / name).mkdir(parents=True)
            tokenizer.save(folder / "tokenizers" / name)
        (folder / CHOICES).write_text(self.choices.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path, *, device: Device = "auto") -> "TokenRanker":
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: a part is missing.
        """
        choices = TokenChoices.load(folder)
        mixture = TokenMixture.load(folder / "model", pick_device(device))
        return cls(
            mixture=mixture,
            catalogue=Catalogue.load(folder / "catalog"),
            choices=choices,
            tokenizers={name: load_tokenizer(folder / "tokenizers" / name) for name in mixture.owners},
        )

    def add_items(
        self, vectors_NF: FloatArray, *, item_ids: Sequence[int | str], category_N: IntArray
    ) -> "TokenRanker":
        """Return the ranker with new items behind its own, scored by their codes alone; nothing is trained.

        A new item with all codes of another scores exactly as that one does.

        Shape:
            vectors_NF: (new items, features) what the tokenizers read. category_N: (new items,).
        """
        parts = [self.tokenizers[name].encode(vectors_NF, resolve=False) for name in self.mixture.owners]
        codes_NM = np.concatenate([self.catalogue.codes_NM, np.concatenate(parts, axis=1)])
        mixture = copy.deepcopy(self.mixture)
        mixture.set_items(codes_NM)
        catalogue = replace(
            self.catalogue,
            item_ids=[*self.catalogue.item_ids, *item_ids],
            codes_NM=codes_NM,
            category_N=np.concatenate([self.catalogue.category_N, category_N]),
        )
        return replace(self, mixture=mixture, catalogue=catalogue)

    def with_catalogue(self, new_IF: FloatArray, longer: Catalogue) -> "TokenRanker":
        """Return the ranker with the items that a longer catalogue has behind its own.

        Shape:
            new_IF: (new items, features) what the tokenizers read.
        """
        old = len(self.catalogue.item_ids)
        return self.add_items(new_IF, item_ids=longer.item_ids[old:], category_N=longer.category_N[old:])

    def sources(self) -> dict[str, ItemScores]:
        """Return each expert's log-probabilities by its name."""
        pairs = zip(self.mixture.codebooks, self.mixture.models(), strict=True)
        return {name: token_log_probs(model) for name, model in pairs}

    def codebooks(self, expert: str) -> slice:
        """Return the columns of the catalogue's codes that an expert reads."""
        return self.mixture.columns[self.mixture.codebooks[expert]]

    def searcher(self, index: ValidityIndex) -> Searcher:
        """Return the compiled search of paths."""
        return compiled_searcher(index)

    def tokens_only(self, *, trace: bool = False) -> Ways:
        """Return the tokens' own ranking, without the item head; with ``trace`` items come with their paths."""
        alone = self.recommender("", self.choices.token_weights, trace=trace)
        by_paths = TOKENS_PATHS.format(paths=self.choices.search.num_paths)
        return Ways(
            exact=alone.variant(TOKENS_EXACT, ranked="catalogue"), paths=alone.variant(by_paths, ranked="reached")
        )

    def all_evidence(self, head: ItemScores, *, trace: bool = False) -> Ways:
        """Return the ranking by all evidence, beside an item head's log-probabilities."""
        both = self.served("", head, trace=trace)
        return Ways(
            exact=both.variant(EVIDENCE_EXACT, ranked="catalogue"), paths=both.variant(PATHS_PROPOSE, ranked="reached")
        )

    def alone(self) -> list[TokenRecommender]:
        """Return each expert by itself over the whole catalogue, new items included."""
        own = replace(self, choices=self.choices.model_copy(update={"new_items": None}))
        made = [own.recommender(EXPERT_ALONE.format(name=name), {name: 1.0}) for name in self.mixture.codebooks]
        return [one.variant(one.name, ranked="catalogue") for one in made]
