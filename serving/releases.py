"""Which release answers: loaded and verified beside the traffic, swapped by one assignment, kept to go back to."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from recsys.contracts import History
from recsys.core.errors import ArtifactError, RecsysError
from recsys.core.telemetry import LOG
from recsys.recommender.manifest import FILE, read_manifest
from serving.memory import without_garbage_collection
from serving.model import ask
from serving.release import (
    Loader,
    Release,
    State,
    SupportsEncoderLoading,
    SupportsForget,
    bare_release,
    load_from_run,
    load_release,
)
from serving.run_time_items import with_run_time_items
from serving.store.changes import StoredItem

_KEPT = 2
"""Releases that stay loaded: the one that answers, and the one before."""


class ReleaseRole(StrEnum):
    """What a release does beside the current one."""

    SECOND = "second"
    SHADOW = "shadow"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A bundle on disk, or one that is loaded."""

    version: str
    folder: Path
    state: str
    reason: str
    current: bool


class Releases:
    """The releases of a run.

    ``current`` is what requests take, once each; ``second`` is what some users are answered by while two are compared;
    ``shadow`` is what is asked beside the answers and never shown. A release that cannot be loaded, or whose parts do
    not belong together, never becomes any of them.
    """

    def __init__(
        self,
        run: Path,
        *,
        loader: Loader | None = None,
        on_change: Callable[[Release], None],
        encoder_at_start: bool = False,
    ) -> None:
        self.run = run
        self._encoder_at_start = encoder_at_start
        self._loader = loader or load_from_run
        self._on_change = on_change
        self._loading = threading.Lock()
        """Held while a release is loaded, which takes seconds."""
        self._lock = threading.Lock()
        """Held while one takes another's place, so that items can change while a release is loaded."""
        self._settled = threading.Event()
        self._base = bare_release(run / "bundle", state=State.LOADING)
        self._loaded: dict[str, Release] = {}
        """Releases as they are on disk, by version."""
        self._with_items: dict[str, Release] = {}
        """The same with the items put at run time, each as of when it last answered."""
        self._put: tuple[StoredItem, ...] = ()
        self._first_seen: Mapping[str, int] = {}
        self._by_role: dict[ReleaseRole, Release] = {}
        self.current = self._base
        self.on_loaded: Callable[[], None] = lambda: None
        """Called when a model is loaded, before it becomes current; and once what encodes new items is loaded."""
        on_change(self.current)

    @property
    def second(self) -> Release | None:
        """The release of a split's second arm."""
        return self._of_role(ReleaseRole.SECOND)

    @property
    def shadow(self) -> Release | None:
        """The release that is asked out of band."""
        return self._of_role(ReleaseRole.SHADOW)

    def start(self, *, version: str | None = None, second: str | None = None, shadow: str | None = None) -> None:
        """Begin to load in the background: the run's bundle, or the version that an administrator chose before.

        Args:
            version: the version chosen.
            second: the version of a split's second arm, if any.
            shadow: the version that is asked out of band, if any.
        """
        roles = {ReleaseRole.SECOND: second, ReleaseRole.SHADOW: shadow}
        threading.Thread(target=self._first, args=(version, roles), name="recsys-load", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Wait until the first loading has ended, well or not; return whether it has."""
        return self._settled.wait(seconds)

    def activate(self, version: str) -> Release:
        """Load, verify and warm a version, and make it current; the old one answers until then.

        Raises:
            KeyError: no bundle of this version is there.
            ArtifactError: it is broken; the current release stays.
        """
        with self._loading:
            if version == self.current.version and self.current.model is not None:
                return self.current
            base = self._loaded.get(version)
            if base is None:
                base = self._load(self._folder(version))
                if (model := self._loading_its_encoder(base)) is not None:
                    model.load_item_encoder()
                self.on_loaded()
            if base.version != version:
                raise ArtifactError(f"the bundle must be version {version}, got {base.version}; publish it again")
            with self._lock:
                self._swap(base)
                return self.current

    def set_role(self, role: ReleaseRole, version: str) -> None:
        """Load, verify and warm a version beside the current one.

        Raises:
            KeyError: no bundle of this version is there.
            ArtifactError: it is broken.
        """
        with self._loading:
            base = self._loaded.get(version) or self._load(self._folder(version))
            with self._lock:
                self._add_items(base)
                self._by_role[role] = base

    def put_items(self, put: tuple[StoredItem, ...]) -> None:
        """Make a release whose items are these beside, or in place of, the bundle's; and make it current."""
        with self._lock:
            self._put = put
            self._swap(self._base)

    def date_items(self, first_seen: Mapping[str, int]) -> None:
        """Take over when items were first seen."""
        with self._lock:
            self._first_seen = first_seen
            self._swap(self._base)

    def forget(self) -> None:
        """Drop what models keep of users between requests."""
        for release in (*self._loaded.values(), *self._with_items.values()):
            if isinstance(release.model, SupportsForget):
                release.model.forget()

    def candidates(self) -> list[Candidate]:
        """Return the versions on disk, the current one first."""
        found = {self.current.version: self._candidate(self.current.version, self.current.folder)}
        for folder in self._folders():
            try:
                version = read_manifest(folder).model_version
            except ArtifactError:
                continue
            found.setdefault(version, self._candidate(version, folder))
        return list(found.values())

    def _candidate(self, version: str, folder: Path) -> Candidate:
        if version == self.current.version:
            state, reason = self.current.state.value, self.current.reason
        else:
            state, reason = ("loaded" if version in self._loaded else "on disk"), ""
        current = version == self.current.version
        return Candidate(version=version, folder=folder, state=state, reason=reason, current=current)

    def _folders(self) -> list[Path]:
        """Return the folders of this run that hold a bundle: its own, and those that were published."""
        places = [self.run / "bundle", *sorted((self.run / "releases").glob("*"))]
        places += [place / "bundle" for place in places[1:]]
        return [place for place in places if (place / FILE).is_file()]

    def _folder(self, version: str) -> Path:
        for folder in self._folders():
            try:
                if read_manifest(folder).model_version == version:
                    return folder
            except ArtifactError:
                continue
        raise KeyError(version)

    def _first(self, version: str | None, roles: Mapping[ReleaseRole, str | None]) -> None:
        try:
            folder = self.run / "bundle"
            if version is not None and version != self._base.version:
                try:
                    folder = self._folder(version)
                except KeyError:
                    LOG.error("the active version %s is not there any more; the run's own bundle is loaded", version)
            with self._loading:
                loaded = self._load(folder)
                self.on_loaded()
                with self._lock:
                    self._swap(loaded)
        except Exception as error:
            # Whatever is wrong with the bundle, the fallback answers and says so.
            LOG.error("the model of %s cannot be loaded", self.run, exc_info=error)
            with self._lock:
                reason = f"{type(error).__name__}: {error}"
                self._swap(bare_release(self.run / "bundle", state=State.FAILED, reason=reason))
        for role, named in roles.items():
            try:
                if named is not None:
                    self.set_role(role, named)
            except (KeyError, ArtifactError) as error:
                LOG.error("the release %s cannot be the %s one; the current one answers alone: %r", named, role, error)
        self._settled.set()
        if (model := self._loading_its_encoder(self._base)) is not None:
            with without_garbage_collection():  # the first time, torch is imported
                model.load_item_encoder()
            self.on_loaded()

    def _loading_its_encoder(self, base: Release) -> SupportsEncoderLoading | None:
        """Return the model whose encoder of new items is to be loaded before the first of them comes, if any."""
        return base.model if self._encoder_at_start and isinstance(base.model, SupportsEncoderLoading) else None

    def _load(self, folder: Path) -> Release:
        try:
            release = load_release(folder, self._loader)
            _warm(release)
        except RecsysError:
            raise
        except Exception as error:
            # Whatever a library makes of a broken model, the release is refused and the old one stays.
            raise ArtifactError(
                f"{folder} must hold a model that answers, got {error!r}; make the bundle again"
            ) from error
        self._with_items.pop(release.version, None)  # an earlier load's, if any
        self._loaded[release.version] = release
        while len(self._loaded) > _KEPT:
            kept = {self._base.version, release.version} | {one.version for one in self._by_role.values()}
            oldest = next((name for name in self._loaded if name not in kept), None)
            if oldest is None:
                break
            del self._loaded[oldest]
            self._with_items.pop(oldest, None)
        return release

    def _of_role(self, role: ReleaseRole) -> Release | None:
        base = self._by_role.get(role)
        return None if base is None else self._with_items.get(base.version)

    def _add_items(self, base: Release) -> Release:
        """Return a base with the items of now; what it has in common with the last time is not made again."""
        release = with_run_time_items(base, self._put, self._first_seen, before=self._with_items.get(base.version))
        self._with_items[base.version] = release
        return release

    def _swap(self, base: Release) -> None:
        """Make a base with the run-time items current; until this one assignment the old release answers."""
        release = self._add_items(base)
        for other in self._by_role.values():
            if other.version != base.version:
                self._add_items(other)
        self._base = base
        self.current = release
        self._on_change(release)


def _warm(release: Release) -> None:
    """Have a model answer before clients ask it, with and without paths, for an empty history and for one event.

    Raises:
        ArtifactError: it does not answer.
    """
    import numpy as np

    if release.model is None:
        return
    everything = np.ones(len(release.items), np.bool_)
    for size in (0, 1):
        history = History(items=np.arange(size), timestamps=np.arange(size))
        for recommender in (release.model.ranker, release.model.recommender):
            (slate,) = ask(recommender, history, [everything], min(10, len(release.items)))
            if not len(slate.items):
                raise ArtifactError(f"the model in {release.folder} must rank its items, got nothing; train it again")
