"""The bundle: everything serving loads and nothing more; a new item can be encoded from it alone.

bundle/manifest.json      version, which model was kept, its validation figures, the hash of every other file
bundle/decoder.json       how paths are decoded and weighed, as chosen on validation
bundle/model/             the generator (Hugging Face layout)
bundle/runtime/           its weights and those of token experts as the CPU runtime reads them, without torch
bundle/catalog/           codes, facets and category names
bundle/tokenizer/         from item vectors to codes
bundle/features/          from items to vectors, and the training items' vectors
bundle/tokens/            token experts, their catalogue and weights, where the run has experts: they are served
bundle/items.parquet      items in the data contract, in the order of the catalogue
bundle/popularity.json    counts for the fallback
bundle/probes.json        some histories and the slates expected for them
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.codes.catalogue import Catalogue
from recsys.contracts import History
from recsys.core.arrays import IntArray
from recsys.core.artifacts import require, write_json
from recsys.core.config import read_config
from recsys.core.device import Device, pick_device
from recsys.data.vocabulary import Vocabulary
from recsys.decoding.config import DecoderConfig
from recsys.features.assemble import FeatureBuilder
from recsys.model.generator import Generator
from recsys.recommender.loaded import LoadedBundle, served
from recsys.recommender.manifest import (
    EXPERTS,
    RUNTIME,
    BundleManifest,
    Choice,
    read_manifest,
    verify_bundle,
    write_manifest,
)
from recsys.recommender.new_items import NewItems, NewItemsConfig, add_items
from recsys.recommender.probes import agreement, load_probes, make_probes, save_probes
from recsys.recommender.reasoning import ReasoningRecommender
from recsys.recommender.scorer import GeneratorScorer
from recsys.recommender.token_ranker import TokenRanker
from recsys.runtime.experts import save_experts
from recsys.runtime.export import export_experts, export_generator
from recsys.runtime.weights import save_weights
from recsys.tokenizer.base import ItemTokenizer
from recsys.tokenizer.kinds import load_tokenizer


@dataclass(frozen=True, kw_only=True)
class BundleParts:
    """What a bundle is made of.

    Shape:
        counts_N: (items,) events of each item in the training log.
    """

    generator: Generator
    catalogue: Catalogue
    decoder: DecoderConfig
    items: pa.Table
    counts_N: IntArray
    tokenizer: ItemTokenizer
    features: FeatureBuilder
    probed: Sequence[History]
    """Histories to take the probe set from."""
    tokens: TokenRanker | None = None
    """The run's token experts."""


@dataclass(frozen=True, kw_only=True)
class Bundle(LoadedBundle[GeneratorScorer]):
    """A loaded bundle; what only new items need is read from its folder on first use.

    Where it has token experts, paths in their codes propose and all evidence ranks; else the generator does both.
    """

    tokens: TokenRanker | None

    @cached_property
    def features(self) -> FeatureBuilder:
        """The fitted transform from items to vectors."""
        return FeatureBuilder.load(self.folder / "features")

    @cached_property
    def tokenizer(self) -> ItemTokenizer:
        """The fitted tokenizer."""
        return load_tokenizer(self.folder / "tokenizer")

    def add_items(self, items: pa.Table, config: NewItemsConfig | None = None) -> NewItems:
        """Return the generator's catalogue with new items behind its own, encoded by the features and tokenizer.

        Raises:
            DataError: an id is missing, twice there or in the catalogue already, or a column cannot be used.
        """
        return add_items(
            items, builder=self.features, tokenizer=self.tokenizer, catalogue=self.generative.catalogue, config=config
        )

    def with_items(self, items: pa.Table) -> "Bundle":
        """Return a bundle that also recommends new items, encoded by this one's features and tokenizer.

        Raises:
            DataError: an id is missing, twice there or in the catalogue already, or a column cannot be used.
        """
        from recsys.recommender.growth import grow  # which makes bundles

        return grow(self, items)

    def probe(self) -> float:
        """Return the share of the expected items that the model recommends to the probe histories here and now."""
        return agreement(self.ranker, self.vocabulary, load_probes(self.folder))


def save_bundle(folder: Path, parts: BundleParts, *, kept: Choice, validation: Sequence[Choice]) -> BundleManifest:
    """Write a bundle into an empty folder and return its manifest."""
    parts.generator.save(folder / "model")
    save_weights(export_generator(parts.generator), folder / RUNTIME)
    for name in ("catalog", "tokenizer", "features"):
        (folder / name).mkdir()
    parts.catalogue.save(folder / "catalog")
    parts.tokenizer.save(folder / "tokenizer")
    parts.features.save(folder / "features")
    write_json(folder / "decoder.json", parts.decoder.model_dump())
    pq.write_table(parts.items, folder / "items.parquet")
    write_json(folder / "popularity.json", {"counts": [int(count) for count in parts.counts_N]})
    if parts.tokens is not None:
        parts.tokens.save(folder / "tokens")
        save_experts(export_experts(parts.tokens.mixture), folder / RUNTIME / EXPERTS)
    generative = ReasoningRecommender(GeneratorScorer(parts.generator), parts.catalogue, parts.decoder, trace=False)
    save_probes(
        make_probes(served(generative, parts.tokens), Vocabulary(parts.catalogue.item_ids), parts.probed), folder
    )
    return write_manifest(folder, kept=kept, validation=validation)


def load_bundle(folder: Path, *, device: Device = "auto", trace: bool = True, verify: bool = True) -> Bundle:
    """Load a bundle for recommending.

    Args:
        folder: the bundle.
        device: where the model runs.
        trace: whether slates come with paths.
        verify: whether every file is compared with its hash first; leave it out only where that was just done.

    Raises:
        ArtifactError: a part is missing or was changed; names it.
    """
    manifest = verify_bundle(folder) if verify else read_manifest(folder)
    remedy = f"run `recsys train DATA --to {folder.parent}` to make it"
    require(folder / "model" / "model.safetensors", remedy=remedy)
    generator = Generator.load(folder / "model", pick_device(device))
    catalogue = Catalogue.load(folder / "catalog")
    decoder = read_config(DecoderConfig, folder / "decoder.json")
    generative = ReasoningRecommender(GeneratorScorer(generator), catalogue, decoder, trace=trace)
    tokens = TokenRanker.load(folder / "tokens", device=device) if (folder / "tokens").exists() else None
    return Bundle(folder=folder, generative=generative, tokens=tokens, manifest=manifest)
