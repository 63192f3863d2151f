"""A bundle that recommends items added after training: its catalogue, generator and prior, one row longer an item.

Axes: N item of the bundle, I new item, D width, F feature.

Nothing that was learned changes. A new item's codes come from the frozen tokenizers, so token experts, token heads and
code embeddings know it. What a generator holds per item is taken from the training items most alike: the mean of their
id vectors and biases, weighted by likeness; ensemble members, which have id vectors alone, get zeros as for an item
without events.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from scipy.sparse import block_array, csr_array
from torch import Tensor

from recsys.core.arrays import FloatArray, IntArray
from recsys.model.config import GeneratorConfig
from recsys.model.cooccurrence_prior import NEIGHBOURS, SHARPNESS, CooccurrencePrior
from recsys.model.generator import Generator
from recsys.recommender.bundle import Bundle
from recsys.recommender.reasoning import ReasoningRecommender
from recsys.recommender.scorer import GeneratorScorer

_VOTERS = 10
"""Training items from which a new one takes its id vector and bias."""
_OF_THE_PRIOR = ("head.prior_starts", "head.prior_items", "head.prior_values")
"""Tensors that are written anew from the wider prior."""


def grow(bundle: Bundle, items: pa.Table) -> Bundle:
    """Return a bundle whose catalogue and model hold new items behind their own; the given one stays as it is.

    Raises:
        DataError: an id is missing, twice there or in the catalogue already, or a column cannot be used.
    """
    new = bundle.add_items(items)
    trained_NF = bundle.features.features.vectors_NF
    likeness_IN = likeness(new.vectors_IF, trained_NF)
    old, tokens = bundle.generative, bundle.tokens
    generator = widened(old.scorer.generator, new.catalogue.codes_NM, likeness_IN)
    generative = ReasoningRecommender(GeneratorScorer(generator), new.catalogue, old.config, trace=old.trace)
    if tokens is not None:
        tokens = tokens.with_catalogue(new.vectors_IF, new.catalogue)
    return replace(bundle, generative=generative, tokens=tokens)


def widened(
    generator: Generator, codes_NM: IntArray, likeness_IN: FloatArray, prior: CooccurrencePrior | None = None
) -> Generator:
    """Return a generator with a row more for each new item in everything that it holds per item.

    ``prior`` is a co-occurrence prior of all items; without one the generator's own is widened.

    Shape:
        codes_NM: (items and new items, codebooks).
        likeness_IN: (new items, items), from 0 on, how alike they are.
    """
    weights_IN = torch.from_numpy(mean_weights(likeness_IN))
    prior = _wider_prior(generator.head.prior(), likeness_IN) if prior is None else prior
    settings = generator.config.to_dict() | {
        "num_items": len(codes_NM),
        "prior_pairs": [int(table.nnz) for table in prior.tables],
    }
    wider = Generator(GeneratorConfig(**settings))
    state = wider.state_dict()
    for name, values in generator.state_dict().items():
        if name.startswith(_OF_THE_PRIOR):
            continue
        if values.shape == state[name].shape:
            state[name] = values
        else:
            state[name] = torch.cat([values, _rows_of(name, values, weights_IN.to(values.device))])
    state["items.codes_NM"] = torch.from_numpy(np.asarray(codes_NM, np.int64))
    wider.load_state_dict(state)
    wider.head.set_prior(prior)
    if wider.head.members is not None:
        wider.head.members.requires_grad_(False)
    return wider.to(generator.device).eval()


def _rows_of(name: str, values: Tensor, weights_IN: Tensor) -> Tensor:
    """Return what new items get of a tensor with one row an item."""
    if name.startswith("head.members."):
        return values.new_zeros((len(weights_IN), *values.shape[1:]))
    if values.dtype.is_floating_point:
        return (weights_IN.to(values.dtype) @ values.reshape(len(values), -1)).reshape(-1, *values.shape[1:])
    return values.new_zeros((len(weights_IN), *values.shape[1:]))


def _wider_prior(prior: CooccurrencePrior, likeness_IN: FloatArray) -> CooccurrencePrior:
    """Return a prior in which new items have no pairs, and their likest items where the prior has likeness."""
    new, old = likeness_IN.shape
    tables: list[csr_array] = []
    for table_NN in prior.tables:
        corner = csr_array((new, new), dtype=np.float32)
        below = csr_array((new, old), dtype=np.float32)
        if table_NN is prior.likeness:
            below = csr_array(_strongest(likeness_IN, NEIGHBOURS) ** SHARPNESS)
        blocks: list[list[Any]] = [[table_NN, below.T], [below, corner]]
        wide: csr_array = block_array(blocks).tocsr().astype(np.float32)
        wide.sort_indices()
        wide.indices, wide.indptr = wide.indices.astype(np.int32), wide.indptr.astype(np.int32)
        tables.append(wide)
    return CooccurrencePrior(tables=tuple(tables))


def likeness(new_IF: FloatArray, trained_NF: FloatArray) -> FloatArray:
    """Return the cosines of new items and training items, none below 0, shape (new items, items)."""
    unit_IF, unit_NF = _unit(new_IF), _unit(trained_NF)
    return np.maximum(unit_IF @ unit_NF.T, 0.0).astype(np.float32)


def mean_weights(likeness_IN: FloatArray) -> FloatArray:
    """Return what the items most alike count in a mean for each new item: rows that sum to 1, or to 0 without any."""
    strongest_IN = _strongest(likeness_IN, _VOTERS)
    return np.asarray(strongest_IN / np.maximum(strongest_IN.sum(axis=1, keepdims=True), 1e-9), np.float32)


def _unit(vectors_NF: FloatArray) -> FloatArray:
    length_N1 = np.linalg.norm(vectors_NF, axis=1, keepdims=True)
    return np.asarray(vectors_NF / np.maximum(length_N1, 1e-9), np.float32)


def _strongest(likeness_IN: FloatArray, count: int) -> FloatArray:
    """Return likeness with all but each new item's strongest set to 0."""
    if count >= likeness_IN.shape[1]:
        return likeness_IN.copy()
    kept_IK = np.argpartition(-likeness_IN, count - 1, axis=1)[:, :count]
    strongest_IN = np.zeros_like(likeness_IN)
    np.put_along_axis(strongest_IN, kept_IK, np.take_along_axis(likeness_IN, kept_IK, axis=1), axis=1)
    return strongest_IN
