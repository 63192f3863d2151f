"""The folder of a run's token models: the mixture, the catalogue in all its codebooks, and what validation chose.

model/         the mixture of experts
catalog/       every item's codes in all experts' codebooks, and words for each code
choices.json   weights and search, see :class:`recsys.recommender.token_config.TokenChoices`
"""

from dataclasses import dataclass
from pathlib import Path

from recsys.codes.catalogue import Catalogue
from recsys.codes.validity import ValidityIndex
from recsys.contracts import ItemScores
from recsys.core.artifacts import require
from recsys.core.device import Device, pick_device
from recsys.decoding.belief_search import Categories
from recsys.decoding.config import BeliefSearchConfig
from recsys.model.tokens.mixture import TokenMixture, token_log_probs
from recsys.recommender.evidence import Evidence
from recsys.recommender.token_config import HEAD, TokenChoices
from recsys.recommender.token_recommender import TokenRecommender

TOKENS_EXACT = "recsys: tokens alone (exact)"
TOKENS_PATHS = "recsys: tokens alone ({paths} paths)"
PATHS_PROPOSE = "recsys: paths propose, all evidence ranks"
EVIDENCE_EXACT = "recsys: all evidence ranks the catalogue"

_CHOICES = "choices.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenRanker:
    """Token experts, their catalogue, and the choices that make recommenders of them."""

    mixture: TokenMixture
    catalogue: Catalogue
    choices: TokenChoices

    def save(self, folder: Path) -> None:
        """Write all parts into a folder."""
        self.mixture.save(folder / "model")
        self.catalogue.save(folder / "catalog")
        (folder / _CHOICES).write_text(self.choices.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path, *, device: Device = "auto") -> "TokenRanker":
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: a part is missing.
        """
        choices = require(folder / _CHOICES, remedy="train the run with experts to make it").read_text()
        return cls(
            mixture=TokenMixture.load(folder / "model", pick_device(device)),
            catalogue=Catalogue.load(folder / "catalog"),
            choices=TokenChoices.model_validate_json(choices),
        )

    def sources(self) -> dict[str, ItemScores]:
        """Return each expert's log-probabilities by its name."""
        names = [str(name) for name in self.mixture.experts]
        return {name: token_log_probs(model) for name, model in zip(names, self.mixture.models(), strict=True)}

    def recommenders(self, head: ItemScores | None = None, *, trace: bool = False) -> list[TokenRecommender]:
        """Return the ways to rank: tokens alone, exactly and by paths, and with the item head all evidence.

        Args:
            head: the item head's log-probabilities; without it there are the tokens alone.
            trace: whether items come with their paths.
        """
        search, belief = self.choices.search, self.choices.belief
        index = ValidityIndex(self.catalogue.codes_NM, self.catalogue.layout.codebook_size)
        categories = Categories(category_N=self.catalogue.category_N, count=self.catalogue.num_categories)
        sources = self.sources()

        def made(name: str, rank: dict[str, float], config: BeliefSearchConfig) -> TokenRecommender:
            evidence = Evidence(sources if head is None else sources | {HEAD: head}, belief=belief, rank=rank)
            return TokenRecommender(name, evidence, index, categories, config, trace=trace)

        reached = search.model_copy(update={"ranked": "reached"})
        catalogue = search.model_copy(update={"ranked": "catalogue"})
        found = [
            made(TOKENS_EXACT, belief, catalogue),
            made(TOKENS_PATHS.format(paths=search.num_paths), belief, reached),
        ]
        if head is None:
            return found
        return [
            *found,
            made(PATHS_PROPOSE, self.choices.rank, reached),
            made(EVIDENCE_EXACT, self.choices.rank, catalogue),
        ]
