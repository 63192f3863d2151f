"""The item vector: text, behavioural and given blocks, weighted, concatenated, reduced by PCA.

Axes: N item, F feature, T term.

A run's features folder holds ``features.safetensors`` (vectors and blocks of the training items) and the fitted
transform that gives later items theirs: ``builder.json`` (settings, order of the blocks), ``builder.safetensors``
(idf, axes, ridge) and ``terms.parquet`` (the vocabulary).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field
from safetensors.numpy import load_file, save_file

from recsys.core.arrays import FloatArray, IntArray
from recsys.core.artifacts import require, write_json
from recsys.core.config import Config
from recsys.core.errors import ArtifactError, ConfigError
from recsys.core.seeds import rng_for
from recsys.core.telemetry import LOG
from recsys.data.events import EventLog
from recsys.data.schema import VECTOR_PREFIX
from recsys.features.behavioural import BehaviouralConfig, behavioural_vectors
from recsys.features.given import given_vectors
from recsys.features.impute import BEHAVIOURAL, BehaviourImputer
from recsys.features.item_vectors import REMEDY, Features
from recsys.features.reduction import Principal, fit_pca
from recsys.features.text import TextConfig, TextEncoder, item_texts

TEXT = "text"
_BUILDER, _SETTINGS, _TERMS = "builder.safetensors", "builder.json", "terms.parquet"
_MEAN = "impute.mean."
_FORMAT = 1
_PIECE = 50_000
"""Items whose vectors are made at a time where the catalogue is larger than what the transform is learned from."""


class FeatureConfig(Config):
    """Which blocks make an item's vector."""

    text: TextConfig = TextConfig()
    """The text block."""
    behavioural: BehaviouralConfig = BehaviouralConfig()
    """The behavioural block."""
    use_text: bool = True
    """Whether text counts."""
    use_behavioural: bool = True
    """Whether behaviour counts."""
    use_given: bool = True
    """Whether the columns named ``vector_*`` count."""
    text_weight: float = Field(default=1.0, gt=0)
    """Length of a row of the text block."""
    behavioural_weight: float = Field(default=1.0, gt=0)
    """Length of a row of the behavioural block."""
    given_weight: float = Field(default=1.0, gt=0)
    """Length of a row of each given block."""
    impute_behaviour: bool = True
    """Whether an item without behaviour gets a guess from its other blocks instead of zeros."""
    impute_ridge: float = Field(default=10.0, gt=0)
    """Ridge penalty of that guess."""
    width: int | None = Field(default=256, ge=1)
    """PCA width of the concatenation (fewer if there are fewer dimensions); none keeps the concatenation."""
    fit_items: int = Field(default=200_000, ge=1)
    """In larger catalogues words, the guess of behaviour and principal axes are learned from so many items, drawn at
    random; then all items get their vectors by them, piece by piece."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureBuilder:
    """The fitted transform from items to vectors, and the vectors of the items it was fitted on.

    ``names`` are the blocks in the order they are joined; ``text``, ``imputer`` and ``principal`` are None where the
    settings or the data leave nothing to do for them. ``features`` begin with the items that the transform was fitted
    on, ``fitted`` many; later ones follow where it was extended.
    """

    config: FeatureConfig
    names: tuple[str, ...]
    text: TextEncoder | None
    imputer: BehaviourImputer | None
    principal: Principal | None
    features: Features
    fitted: int

    @classmethod
    def fit(cls, items: pa.Table, log: EventLog, config: FeatureConfig, seed: int) -> "FeatureBuilder":
        """Fit on all items; behaviour is read from ``log`` alone, so pass the training part.

        Raises:
            ConfigError: no block is left.
            DataError: a given vector cannot be used.
        """
        if items.num_rows != log.num_items:
            raise ValueError(f"items must be the log's {log.num_items}, got {items.num_rows}; pass the same catalogue")
        blocks: dict[str, FloatArray] = {}
        read_X = None
        if items.num_rows > config.fit_items:
            read_X = np.sort(rng_for(seed, "features", "items").permutation(items.num_rows)[: config.fit_items])
        text = None
        if config.use_text:
            text, blocks[TEXT] = _text_block(items, read_X, config, seed)
        if config.use_behavioural:
            blocks[BEHAVIOURAL] = behavioural_vectors(log, config.behavioural, seed)
        if config.use_given:
            for name in (name for name in items.column_names if name.startswith(VECTOR_PREFIX)):
                blocks[name] = given_vectors(items, name)
        if not blocks:
            raise ConfigError("features must have at least one block, got none; turn on features.use_text or another")
        read = blocks if read_X is None else {name: block[read_X] for name, block in blocks.items()}
        imputer = None
        if config.use_behavioural and config.impute_behaviour:
            imputer = BehaviourImputer.fit(read, ridge=config.impute_ridge)
        joined_NF = _joined(imputer.fill(read) if imputer else read, tuple(blocks), config)
        principal = None if config.width is None else fit_pca(joined_NF, config.width)
        vectors_NF = joined_NF if principal is None else principal.apply(joined_NF)
        fitted = cls(
            config=config,
            names=tuple(blocks),
            text=text,
            imputer=imputer,
            principal=principal,
            features=Features(vectors_NF=vectors_NF, blocks=blocks),
            fitted=items.num_rows,
        )
        return fitted if read_X is None else fitted._with_all_vectors()

    def _with_all_vectors(self) -> "FeatureBuilder":
        """Return the same with the vectors of all items of its blocks, made piece by piece."""
        blocks = self.features.blocks
        vectors_NF = np.empty((self.fitted, self.features.vectors_NF.shape[1]), np.float32)
        for start in range(0, self.fitted, _PIECE):
            rows = slice(start, start + _PIECE)
            vectors_NF[rows] = self.vectors_of({name: block[rows] for name, block in blocks.items()})
        return replace(self, features=Features(vectors_NF=vectors_NF, blocks=blocks))

    def extended(self, items: pa.Table) -> "FeatureBuilder":
        """Return the same transform that holds the vectors of later items behind its own.

        Raises:
            DataError: a given vector has another width than at the fit, or is not finite.
        """
        new, held = self.encode(items), self.features
        blocks = {name: np.concatenate([block, new.blocks[name]]) for name, block in held.blocks.items()}
        return replace(
            self, features=Features(vectors_NF=np.concatenate([held.vectors_NF, new.vectors_NF]), blocks=blocks)
        )

    def transform(self, items: pa.Table, *, behaviour: FloatArray | None = None) -> FloatArray:
        """Return items' vectors in the space of the training items, as :meth:`encode` makes them.

        Shape:
            behaviour: (items, behavioural width). returns: (items, features) float32.
        """
        return self.encode(items, behaviour=behaviour).vectors_NF

    def encode(self, items: pa.Table, *, behaviour: FloatArray | None = None) -> Features:
        """Return items' blocks and vectors; any text, given vector or behaviour may be missing.

        Args:
            items: the items, in the data contract.
            behaviour: their behavioural rows where they have any, zeros where not; None means that none has.

        Raises:
            DataError: a given vector has another width than at the fit, or is not finite.
        """
        blocks: dict[str, FloatArray] = {}
        for name in self.names:
            if name == TEXT and self.text is not None:
                blocks[name] = self.text.encode(item_texts(items))
            elif name == BEHAVIOURAL:
                blocks[name] = self._behaviour(items.num_rows, behaviour)
            else:
                blocks[name] = given_vectors(items, name, width=self.features.blocks[name].shape[1])
        new = [name for name in items.column_names if name.startswith(VECTOR_PREFIX) and name not in self.names]
        if new and self.config.use_given:
            LOG.warning("features: columns %s are left out, because the training items had none", new)
        return Features(vectors_NF=self.vectors_of(blocks), blocks=blocks)

    def vectors_of(self, blocks: Mapping[str, FloatArray]) -> FloatArray:
        """Return the vectors that blocks make together, shape (items, features)."""
        joined_NF = _joined(self.imputer.fill(blocks) if self.imputer else blocks, self.names, self.config)
        return joined_NF if self.principal is None else self.principal.apply(joined_NF)

    def as_new(self) -> Features:
        """Return the items of the fit as they would be encoded if they had no events."""
        blocks = {name: block[: self.fitted] for name, block in self.features.blocks.items()}
        if BEHAVIOURAL in blocks:
            blocks[BEHAVIOURAL] = np.zeros_like(blocks[BEHAVIOURAL])
        return Features(vectors_NF=self.vectors_of(blocks), blocks=blocks)

    def save(self, folder: Path) -> None:
        """Write the features and the transform into a folder, without pickles."""
        self.features.save(folder)
        tensors: dict[str, Any] = {}
        if self.text is not None:
            tensors |= {"text.idf": self.text.idf_T, "text.axes": self.text.axes_TF}
        if self.imputer is not None:
            tensors |= {f"{_MEAN}{name}": mean_F for name, mean_F in self.imputer.means.items()}
            tensors |= {
                "impute.coefficients": self.imputer.coefficients_XF,
                "impute.intercept": self.imputer.intercept_F,
            }
        if self.principal is not None:
            tensors |= {"pca.mean": self.principal.mean_F, "pca.axes": self.principal.axes_FW}
        save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, folder / _BUILDER)
        terms = self.text.terms if self.text is not None else ()
        pq.write_table(pa.table({"term": pa.array(terms, pa.string())}), folder / _TERMS)
        settings = {"format": _FORMAT, "blocks": self.names, "fitted": self.fitted}
        write_json(folder / _SETTINGS, settings | {"config": self.config.model_dump(mode="json")})

    @classmethod
    def load(cls, folder: Path) -> "FeatureBuilder":
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: a file is missing, or of another format.
        """
        settings = json.loads(require(folder / _SETTINGS, remedy=REMEDY).read_text())
        if settings.get("format") != _FORMAT:
            raise ArtifactError(
                f"{folder / _SETTINGS} must have format {_FORMAT}, got {settings.get('format')!r}; {REMEDY}"
            )
        config = FeatureConfig.model_validate(settings["config"])
        names = tuple(settings["blocks"])
        features = Features.load(folder)
        tensors = load_file(require(folder / _BUILDER, remedy=REMEDY))
        terms = pq.read_table(require(folder / _TERMS, remedy=REMEDY))["term"].to_pylist()
        return cls(
            config=config,
            names=names,
            text=_load_text(tensors, tuple(terms), config),
            imputer=_load_imputer(tensors, names),
            principal=_load_principal(tensors),
            features=Features(vectors_NF=features.vectors_NF, blocks={name: features.blocks[name] for name in names}),
            fitted=settings.get("fitted", len(features.vectors_NF)),
        )

    def _behaviour(self, rows: int, behaviour: FloatArray | None) -> FloatArray:
        wanted = (rows, self.features.blocks[BEHAVIOURAL].shape[1])
        if behaviour is None:
            return np.zeros(wanted, np.float32)
        if behaviour.shape != wanted:
            raise ValueError(
                f"behaviour must be {wanted}, got {behaviour.shape}; give each item a row as wide as at the fit"
            )
        return np.asarray(behaviour, np.float32)


def _text_block(
    items: pa.Table, read_X: IntArray | None, config: FeatureConfig, seed: int
) -> tuple[TextEncoder, FloatArray]:
    """Return the text encoder, fitted on the items ``read_X`` or on all, and the block of all items."""
    if read_X is None:
        return TextEncoder.fit(item_texts(items), config.text, seed)
    encoder, _ = TextEncoder.fit(item_texts(items.take(pa.array(read_X))), config.text, seed)
    block_NF = np.empty((items.num_rows, config.text.width), np.float32)
    for start in range(0, items.num_rows, _PIECE):
        block_NF[start : start + _PIECE] = encoder.encode(item_texts(items.slice(start, _PIECE)))
    return encoder, block_NF


def _joined(blocks: Mapping[str, FloatArray], names: tuple[str, ...], config: FeatureConfig) -> FloatArray:
    weights = {TEXT: config.text_weight, BEHAVIOURAL: config.behavioural_weight}
    parts = [weights.get(name, config.given_weight) * blocks[name] for name in names]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _load_text(tensors: Mapping[str, FloatArray], terms: tuple[str, ...], config: FeatureConfig) -> TextEncoder | None:
    if "text.idf" not in tensors:
        return None
    return TextEncoder(config=config.text, terms=terms, idf_T=tensors["text.idf"], axes_TF=tensors["text.axes"])


def _load_imputer(tensors: Mapping[str, FloatArray], names: tuple[str, ...]) -> BehaviourImputer | None:
    if "impute.intercept" not in tensors:
        return None
    return BehaviourImputer(
        means={name: tensors[f"{_MEAN}{name}"] for name in names if name != BEHAVIOURAL},
        coefficients_XF=tensors["impute.coefficients"],
        intercept_F=tensors["impute.intercept"],
    )


def _load_principal(tensors: Mapping[str, Any]) -> Principal | None:
    return Principal(mean_F=tensors["pca.mean"], axes_FW=tensors["pca.axes"]) if "pca.mean" in tensors else None
