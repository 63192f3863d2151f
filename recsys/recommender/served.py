"""A bundle as a server loads it: the runtime's weights in the place of torch's model, with the same slates.

Free of torch, until an item comes that the bundle does not know: what encodes it is torch's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from recsys.codes.catalogue import Catalogue
from recsys.codes.validity import ValidityIndex
from recsys.contracts import ItemScores, Recommender, Slate, requests_for
from recsys.core.config import read_config
from recsys.core.errors import ArtifactError
from recsys.core.telemetry import LOG
from recsys.data.vocabulary import Vocabulary
from recsys.decoding.config import DecoderConfig
from recsys.decoding.item_probabilities import Searcher
from recsys.recommender.loaded import LoadedBundle
from recsys.recommender.manifest import EXPERTS, RUNTIME, read_manifest, verify_bundle
from recsys.recommender.probes import SLATE, Probe, agreement, load_probes
from recsys.recommender.reasoning import ReasoningRecommender
from recsys.recommender.token_experts import TokenChoices, TokenExperts
from recsys.runtime.compiled import use_one_thread
from recsys.runtime.expert_scorer import ExpertScorer
from recsys.runtime.experts import Expert, codebooks_of, load_experts
from recsys.runtime.path_search import compiled_searcher
from recsys.runtime.scorer import RuntimeScorer
from recsys.runtime.weights import load_weights

if TYPE_CHECKING:
    from recsys.recommender.bundle import Bundle

TOLERANCE: Final = 1e-3
"""Largest difference from a score of torch's that the runtime may have; probes hold scores to four decimals."""
KEPT_STATES: Final = 4096
"""Histories whose encoded states are kept in memory, a few kB each: a release keeps no more, however many request."""

FAST_ITEMS: Final = 50_000
"""Largest catalogue that the runtime ranks within some two milliseconds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ServedExperts(TokenExperts):
    """Token experts by the runtime."""

    scorer: ExpertScorer

    @classmethod
    def of(cls, experts: Sequence[Expert], catalogue: Catalogue, choices: TokenChoices) -> "ServedExperts":
        """Return experts that score a catalogue.

        Raises:
            ArtifactError: the catalogue has other codebooks than the experts.
        """
        scorer = ExpertScorer(
            experts,
            catalogue.codes_NM,
            catalogue.layout.codebook_size,
            groups=_computed_together([expert.name for expert in experts], choices, len(catalogue.codes_NM)),
            kept_states=KEPT_STATES,
        )
        return cls(scorer=scorer, catalogue=catalogue, choices=choices)

    def sources(self) -> Mapping[str, ItemScores]:
        """Return the log-probabilities of each expert that takes part, by its name."""
        return self.scorer.sources()

    def codebooks(self, expert: str) -> slice:
        """Return the columns of the catalogue's codes that an expert reads."""
        return codebooks_of(list(self.scorer.experts.values()))[expert]

    def searcher(self, index: ValidityIndex) -> Searcher:
        """Return the compiled search of paths."""
        return compiled_searcher(index)


def _computed_together(names: Sequence[str], choices: TokenChoices, num_items: int) -> list[list[str]]:
    """Return the experts that rank, those that only search, and those that only rank by tokens alone.

    What is asked for waits for no expert of another group. One that scores new items ranks where there are some.
    """
    chosen = choices.new_items
    for_new = "" if chosen is None or not chosen.any_among(num_items) else chosen.expert
    ranks = [name for name in names if choices.rank_weights.get(name) or name == for_new]
    searches = [name for name in names if choices.search_weights.get(name) and name not in ranks]
    alone = [name for name in names if choices.token_weights.get(name) and name not in (*ranks, *searches)]
    return [group for group in (ranks, searches, alone) if group]


@dataclass(frozen=True, kw_only=True)
class ServedBundle(LoadedBundle[RuntimeScorer]):
    """A bundle that ranks by the runtime."""

    tokens: ServedExperts | None

    @cached_property
    def source(self) -> "Bundle":
        """The same bundle with torch's model, which encodes new items; loaded on first use."""
        from recsys.recommender.bundle import load_bundle

        bundle = load_bundle(self.folder, device="cpu", verify=False)
        # what an item is encoded with is read now, so that the first new item does not wait for it
        _ = bundle.features, bundle.tokenizer
        return bundle

    @property
    def has_fast_ranker(self) -> bool:
        """Whether the ranker is compiled code alone and ends within a few milliseconds, whatever the request."""
        ranking = self.generative.config.ranking
        return self.tokens is None and ranking.head_decides and self.generative.scorer.num_items <= FAST_ITEMS

    def with_items(self, items: pa.Table) -> "ServedBundle":
        """Return a bundle that also recommends new items, encoded by the frozen features and tokenizer.

        Raises:
            DataError: an id is missing, twice there or in the catalogue already, or a column cannot be used.
        """
        from recsys.runtime.export import export_generator

        grown = self.source.with_items(items)
        scorer = RuntimeScorer(export_generator(grown.generative.scorer.generator), kept_states=KEPT_STATES)
        old = self.generative
        generative = ReasoningRecommender(scorer, grown.generative.catalogue, old.config, trace=old.trace)
        tokens = self.tokens
        if tokens is not None and grown.tokens is not None:
            # what the experts learned stays: new items have codes of theirs, and nothing else
            tokens = ServedExperts.of(list(tokens.scorer.experts.values()), grown.tokens.catalogue, tokens.choices)
        return replace(self, generative=generative, tokens=tokens)

    def load_item_encoder(self) -> None:
        """Load what encodes new items, so that the first one does not wait for it."""
        _ = self.source

    def probe(self) -> float:
        """Return the share of the expected items that the model recommends to the probe histories here and now."""
        return agreement(self.ranker, self.vocabulary, load_probes(self.folder))

    def forget(self) -> None:
        """Drop all kept states of users."""
        self.generative.scorer.forget()
        if self.tokens is not None:
            self.tokens.scorer.forget()


def load_served(folder: Path, *, verify: bool = True) -> "ServedBundle | Bundle":
    """Load a bundle for serving: by the runtime where that gives the slates of torch's model, else by torch.

    Args:
        folder: the bundle.
        verify: whether every file is compared with its hash first; leave it out only where that was just done.

    Raises:
        ArtifactError: a part is missing or was changed; names it.
    """
    manifest = verify_bundle(folder) if verify else read_manifest(folder)
    use_one_thread()
    if missing := _missing(folder):
        LOG.warning(
            "%s holds no %s of the runtime; torch ranks, which is slower; make the bundle again", folder, missing
        )
        return _by_torch(folder)
    catalogue = Catalogue.load(folder / "catalog")
    scorer = RuntimeScorer(load_weights(folder / RUNTIME), kept_states=KEPT_STATES)
    if scorer.num_items != len(catalogue.codes_NM):
        raise ArtifactError(
            f"{folder / RUNTIME} must hold the {len(catalogue.codes_NM)} items of the catalogue, got "
            f"{scorer.num_items}; make the bundle again"
        )
    config = read_config(DecoderConfig, folder / "decoder.json")
    generative = ReasoningRecommender(scorer, catalogue, config)
    bundle = ServedBundle(folder=folder, generative=generative, tokens=_tokens(folder), manifest=manifest)
    if (differing := differing_probes(bundle.ranker, bundle.vocabulary, load_probes(folder))) > 0:
        LOG.error(
            "the runtime answers %d probes of %s unlike torch's model; torch ranks, which is slower", differing, folder
        )
        return _by_torch(folder)
    return bundle


def _missing(folder: Path) -> str:
    """Return what a bundle of the time before lacks for the runtime, nothing where it has all."""
    if not (folder / RUNTIME).is_dir():
        return "weights"
    return "token experts" if (folder / "tokens").is_dir() and not (folder / RUNTIME / EXPERTS).is_dir() else ""


def _tokens(folder: Path) -> ServedExperts | None:
    """Return the bundle's token experts, None where it has none."""
    if not (folder / "tokens").is_dir():
        return None
    catalogue = Catalogue.load(folder / "tokens" / "catalog")
    return ServedExperts.of(load_experts(folder / RUNTIME / EXPERTS), catalogue, TokenChoices.load(folder / "tokens"))


def _by_torch(folder: Path) -> "Bundle":
    """Return the bundle with torch's model on one thread: a second one waits for the first at these sizes."""
    import torch

    from recsys.recommender.bundle import load_bundle

    torch.set_num_threads(1)
    return load_bundle(folder, verify=False)


def differing_probes(recommender: Recommender, vocabulary: Vocabulary, probes: Sequence[Probe]) -> int:
    """Return how many probes get a slate that is not the expected one within :data:`TOLERANCE`.

    A slate is the expected one if its scores are, place by place, and if every item that should be in it and is not
    was expected as near to the last place as scores may differ.
    """
    histories = [vocabulary.history(probe.history).history for probe in probes]
    slates = recommender.recommend(requests_for(histories, n=SLATE))
    return sum(not _as_expected(slate, vocabulary, probe) for slate, probe in zip(slates, probes, strict=True))


def _as_expected(slate: Slate, vocabulary: Vocabulary, probe: Probe) -> bool:
    scores_S = np.array(probe.scores, np.float64)
    if len(slate.items) != len(scores_S) or not np.allclose(slate.scores, scores_S, atol=TOLERANCE, rtol=0):
        return False
    missing_S = ~np.isin(vocabulary.find(probe.expected).rows_V, slate.items)
    return bool((scores_S[missing_S] <= scores_S.min(initial=np.inf) + 2 * TOLERANCE).all())
