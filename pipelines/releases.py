"""Releases of a run: immutable copies of bundles, a pointer to the one that serves, and the history of the pointer.

RUN/releases/VERSION/          a published bundle
RUN/releases/current.json      the pointer: which version serves, since when, what it replaced
RUN/releases/history.json      every move of the pointer, oldest first
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.contracts import History, Request, Slate
from recsys.core.artifacts import atomic_folder, write_json
from recsys.core.errors import ArtifactError
from recsys.data.vocabulary import UNKNOWN, Vocabulary
from recsys.recommender.bundle import Bundle, load_bundle
from recsys.recommender.manifest import read_manifest, verify_bundle
from recsys.recommender.pointer import CURRENT, RELEASES

HISTORY = "history.json"


@dataclass(frozen=True, kw_only=True)
class Move:
    """One move of the pointer."""

    version: str
    at: str
    """When, in UTC."""
    kind: str
    """``publish`` or ``rollback``."""
    replaced: str | None = None
    """The version that served before."""
    source: str = ""
    """The run that the bundle came from."""


class ReleaseFolder:
    """The releases of one run."""

    def __init__(self, run: Path) -> None:
        self.folder = run / RELEASES

    def current(self) -> Move | None:
        """Return the move that made the current release, None before the first."""
        path = self.folder / CURRENT
        return Move(**self._read(path)) if path.exists() else None

    def history(self) -> list[Move]:
        """Return every move, oldest first."""
        path = self.folder / HISTORY
        return [Move(**row) for row in self._read(path)] if path.exists() else []

    def bundle(self, version: str) -> Path:
        """Return the folder of a published version."""
        return self.folder / version

    def add(self, bundle: Path, work: Path) -> str:
        """Copy a bundle among the releases unless it is there already, and return its version; it is verified first."""
        version = verify_bundle(bundle).model_version
        target = self.bundle(version)
        if not target.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_folder(target, work) as out:
                shutil.copytree(bundle, out, dirs_exist_ok=True)
        verify_bundle(target)
        return version

    def point(self, version: str, *, kind: str, source: str = "") -> Move:
        """Make a version current: history first, then the pointer in one rename."""
        now = self.current()
        move = Move(
            version=version,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            kind=kind,
            replaced=now.version if now else None,
            source=source,
        )
        write_json(self.folder / HISTORY, [asdict(row) for row in (*self.history(), move)])
        write_json(self.folder / CURRENT, asdict(move))
        return move

    def previous(self) -> str:
        """Return the version to go back to: the one that the current release replaced when it was published.

        Raises:
            ArtifactError: there is none.
        """
        now = self.current()
        published = [row for row in self.history() if now and row.version == now.version and row.kind == "publish"]
        back = published[-1].replaced if published else None
        if back is None or not self.bundle(back).exists():
            raise ArtifactError(
                f"{self.folder} must hold an earlier release to go back to, got "
                f"{'none published' if now is None else f'{now.version} as the first'}; publish another first"
            )
        return back

    def _read(self, path: Path) -> Any:
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ArtifactError(f"{path} must be JSON, got {error}; restore it or remove it") from error


class ReleaseRecommender:
    """A bundle called in the numbers of another catalogue, matched by item id."""

    def __init__(self, bundle: Bundle, items: Vocabulary, *, name: str) -> None:
        self.name = name
        self._ranker = bundle.ranker
        ids = pa.chunked_array([pa.array([str(one) for one in items.ids])])
        own = pa.chunked_array([pa.array([str(one) for one in bundle.vocabulary.ids])])
        self._own_N = bundle.vocabulary.rows_of(ids, "item_id")
        self._given_N = items.rows_of(own, "item_id")

    @classmethod
    def load(cls, folder: Path, items: Vocabulary, *, name: str) -> "ReleaseRecommender":
        """Load and verify a published bundle."""
        return cls(load_bundle(folder, trace=False), items, name=f"{name} {read_manifest(folder).model_version}")

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Return slates of items that both catalogues have; a history's other items are left out."""
        return [self._given(slate) for slate in self._ranker.recommend([self._translated(one) for one in requests])]

    def _translated(self, request: Request) -> Request:
        items = self._own_N[request.history.items]
        known = items != UNKNOWN
        history = History(items=items[known], timestamps=request.history.timestamps[known])
        eligible_N = self._given_N != UNKNOWN
        if request.eligible_N is not None:
            eligible_N &= request.eligible_N[np.maximum(self._given_N, 0)]
        return replace(request, history=history, eligible_N=None if eligible_N.all() else eligible_N)

    def _given(self, slate: Slate) -> Slate:
        return Slate(items=self._given_N[slate.items], scores=slate.scores)
