"""The bundle: everything serving loads and nothing more.

bundle/manifest.json      model version, which model was kept, its validation figures
bundle/decoder.json       how paths are decoded and weighed, as chosen on validation
bundle/model/             the generator (Hugging Face layout)
bundle/catalog/           codes and facets
bundle/items.parquet      ids and titles, in the order of the catalogue
bundle/popularity.json    counts for the fallback
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.codes.catalogue import Catalogue
from recsys.core.arrays import IntArray
from recsys.core.artifacts import hash_folder, hash_value, require, write_json
from recsys.core.device import Device, pick_device
from recsys.data.vocabulary import Vocabulary
from recsys.decoding.config import DecoderConfig
from recsys.model.generator import Generator
from recsys.recommender.reasoning import ReasoningRecommender


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A loaded bundle."""

    recommender: ReasoningRecommender
    catalogue: Catalogue
    model_version: str

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The ids of the catalogue's items."""
        return Vocabulary(self.catalogue.item_ids)

    @cached_property
    def ranker(self) -> ReasoningRecommender:
        """The same model and the same slates without paths, for those who do not ask why."""
        return self.recommender.untraced()


def save_bundle(  # noqa: PLR0913 (one argument a part)
    folder: Path,
    *,
    generator: Generator,
    catalogue: Catalogue,
    decoder: DecoderConfig,
    items: pa.Table,
    counts_N: IntArray,
    notes: Mapping[str, Any],
) -> str:
    """Write a bundle into an empty folder and return its model version: a hash of all that it holds."""
    generator.save(folder / "model")
    (folder / "catalog").mkdir()
    catalogue.save(folder / "catalog")
    write_json(folder / "decoder.json", decoder.model_dump())
    pq.write_table(items, folder / "items.parquet")
    write_json(folder / "popularity.json", {"counts": [int(count) for count in counts_N]})
    version = hash_value(hash_folder(folder))[:12]
    write_json(folder / "manifest.json", {"model_version": version, **notes})
    return version


def load_bundle(folder: Path, *, device: Device = "auto", trace: bool = True) -> Bundle:
    """Load a bundle for recommending.

    Raises:
        ArtifactError: a part is missing; names it and the command that makes it.
    """
    remedy = f"run `recsys train DATA --to {folder.parent}` to make it"
    manifest = json.loads(require(folder / "manifest.json", remedy=remedy).read_text())
    require(folder / "model" / "model.safetensors", remedy=remedy)
    generator = Generator.load(folder / "model", pick_device(device))
    catalogue = Catalogue.load(folder / "catalog")
    decoder = DecoderConfig.model_validate_json((folder / "decoder.json").read_text())
    recommender = ReasoningRecommender(generator, catalogue, decoder, trace=trace)
    return Bundle(recommender=recommender, catalogue=catalogue, model_version=manifest["model_version"])
