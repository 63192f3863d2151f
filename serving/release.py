"""The release: item table, model, facets and version of one bundle, verified together, never changed.

A request takes the current release once and uses nothing else; a new one takes its place by one assignment. Whatever
is remembered between requests is remembered by external id, never by row.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from recsys.contracts import Recommender
from recsys.core.arrays import IntArray
from recsys.core.errors import ArtifactError
from recsys.recommender.manifest import read_manifest, verify_bundle
from serving.facets import Code, FacetTable, facet_table, no_facets
from serving.items import ItemTable, read_items

UNKNOWN = "unknown"
"""The version of a bundle whose manifest cannot be read."""
LEAST_AGREEMENT = 0.9
"""Least share of the probes' expected items that a model recommends on this machine; arithmetic differs a little."""
_AGAIN = "make the bundle again"


class LoadedCatalogue(Protocol):
    """What serving reads of a catalogue."""

    @property
    def item_ids(self) -> Sequence[int | str]:
        """External ids, in the order of rows."""
        ...

    @property
    def codes_NM(self) -> IntArray:
        """Codes, shape (items, codebooks)."""
        ...

    @property
    def facets(self) -> dict[Code, str]:
        """Words by (codebook, code)."""
        ...


class LoadedBundle(Protocol):
    """What a bundle loader returns."""

    @property
    def recommender(self) -> Recommender:
        """The model, which returns the paths to its items."""
        ...

    @property
    def ranker(self) -> Recommender:
        """The same model without paths, which is faster."""
        ...

    @property
    def catalogue(self) -> LoadedCatalogue:
        """Its catalogue."""
        ...

    @property
    def explains_search(self) -> bool:
        """Whether only paths that the search took stand beside items, so that an item may have none."""
        ...

    @property
    def model_version(self) -> str:
        """Its version."""
        ...


@runtime_checkable
class SupportsProbe(Protocol):
    """A bundle that holds histories with the items that its model should recommend for them."""

    def probe(self) -> float:
        """Return the share of the expected items that the model recommends here and now."""
        ...


Loader = Callable[[Path], LoadedBundle]


Bodies = Mapping[str, Mapping[str, Any]]
"""Values by column of items that were put at run time, by item id, in the order in which they came."""


class State(StrEnum):
    """Whether the model of a release is loaded."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, eq=False)
class Release:
    """One bundle as it is served; without ``model`` the fallback answers, and ``reason`` says why."""

    version: str
    folder: Path
    items: ItemTable
    facets: FacetTable
    model: LoadedBundle | None
    state: State
    reason: str = ""
    trained: int
    """Number of items that the model was trained on: the first rows."""
    bodies: Bodies = field(default_factory=dict)
    """What was put at run time of items' columns, and of new items."""
    has_fast_ranker: bool = False
    """Whether the event loop itself may call the model's ranker, because it ends within a few milliseconds."""


@runtime_checkable
class SupportsFastRanking(Protocol):
    """A bundle that says whether its ranker may be called on the event loop."""

    @property
    def has_fast_ranker(self) -> bool:
        """Whether the ranker ends within a few milliseconds, whatever the request."""
        ...


@runtime_checkable
class SupportsEncoderLoading(Protocol):
    """A bundle that loads the encoder of new items on first use."""

    def load_item_encoder(self) -> None:
        """Load the encoder now."""
        ...


@runtime_checkable
class SupportsForget(Protocol):
    """A bundle that caches encoded histories of users between requests."""

    def forget(self) -> None:
        """Drop all cached histories."""
        ...


def load_from_run(folder: Path) -> LoadedBundle:
    """Load a bundle with the project's own loader, which brings torch in only where the runtime cannot rank."""
    from recsys.recommender.served import load_served

    bundle: LoadedBundle = load_served(folder, verify=False)  # load_release has just done it
    return bundle


def bare_release(folder: Path, *, state: State, reason: str = "") -> Release:
    """Return a release without a model, for as long as one is loading or where none can be loaded.

    Raises:
        ArtifactError: the bundle's item table cannot be used.
    """
    items = read_items(folder, _counts(folder / "popularity.json"))
    try:
        version = read_manifest(folder).model_version
    except ArtifactError:
        version = UNKNOWN
    return Release(
        version=version,
        folder=folder,
        items=items,
        facets=no_facets(len(items)),
        model=None,
        state=state,
        reason=reason,
        trained=len(items),
    )


def load_release(folder: Path, loader: Loader) -> Release:
    """Load a bundle whole and check that its parts belong together.

    Raises:
        ArtifactError: a file or a part is not the one that belongs to the others.
    """
    version = verify_bundle(folder).model_version
    bare = bare_release(folder, state=State.LOADING)
    bundle = loader(folder)
    if bundle.model_version != version:
        raise ArtifactError(f"the model in {folder} must be {version}, got {bundle.model_version}; {_AGAIN}")
    catalogue = bundle.catalogue
    if list(catalogue.item_ids) != list(bare.items.item_ids):
        raise ArtifactError(
            f"the catalogue in {folder} must list the {len(bare.items)} items of items.parquet in their order, got "
            f"{len(catalogue.item_ids)} items or another order; {_AGAIN}"
        )
    if isinstance(bundle, SupportsProbe) and (share := bundle.probe()) < LEAST_AGREEMENT:
        raise ArtifactError(
            f"the model in {folder} must recommend at least {LEAST_AGREEMENT:.0%} of what its probes expect, got "
            f"{share:.0%}; {_AGAIN}"
        )
    return with_model(bare, bundle)


def with_model(bare: Release, bundle: LoadedBundle) -> Release:
    """Return a release with its model."""
    return replace(
        bare,
        facets=facet_table(np.asarray(bundle.catalogue.codes_NM), bundle.catalogue.facets),
        model=bundle,
        state=State.READY,
        has_fast_ranker=isinstance(bundle, SupportsFastRanking) and bundle.has_fast_ranker,
    )


def _counts(path: Path) -> IntArray | None:
    if not path.is_file():
        return None
    try:
        counts = json.loads(path.read_text(encoding="utf-8"))["counts"]
        return np.asarray(counts, dtype=np.int64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} must be JSON with counts, got {error!r}; {_AGAIN}") from error
