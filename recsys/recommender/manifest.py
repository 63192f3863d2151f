"""The manifest of a bundle: its version, what was kept and why, and the hash of every other file in it.

Free of torch, so that a server can verify a bundle before it loads a model.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from recsys.core.artifacts import hash_folder, hash_value, require, write_json
from recsys.core.errors import ArtifactError

FILE: Final = "manifest.json"
RUNTIME: Final = "runtime"
"""The folder in a bundle that holds what the runtime reads."""
EXPERTS: Final = "experts"
"""The folder in that one that holds token experts."""
FORMAT: Final = 3
"""Raised when a bundle's files change their meaning; 1 had neither file hashes nor what encodes a new item, 2 had one
ensemble member at most."""

Scalar = str | float | int | bool | None
Choice = Mapping[str, Scalar]
"""One model and decoding that was tried on validation, with its settings and figures by name."""

_VERSION_LENGTH = 12


@dataclass(frozen=True, kw_only=True)
class BundleManifest:
    """Version, choice and file hashes of a bundle.

    ``model_version`` is a hash of ``files``, the SHA-256 of every file of the bundle but the manifest by relative name.
    ``kept`` is the choice that the bundle holds, ``validation`` every choice that was tried.
    """

    model_version: str
    kept: Choice
    validation: tuple[Choice, ...]
    files: Mapping[str, str]
    format: int = FORMAT


def write_manifest(folder: Path, *, kept: Choice, validation: Sequence[Choice]) -> BundleManifest:
    """Hash the files of a bundle that is complete but for its manifest, write that, and return it."""
    files = _hashes(folder)
    manifest = BundleManifest(
        model_version=_version(files), kept=dict(kept), validation=tuple(map(dict, validation)), files=files
    )
    write_json(folder / FILE, asdict(manifest))
    return manifest


def read_manifest(folder: Path) -> BundleManifest:
    """Read a bundle's manifest.

    Raises:
        ArtifactError: there is none, or it is no manifest of this format.
    """
    remedy = f"run `recsys train DATA --to {folder.parent}` to make the bundle"
    path = require(folder / FILE, remedy=remedy)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ArtifactError(f"{path} must have format {FORMAT}, got {content['format']!r}; {remedy}")
        return BundleManifest(
            model_version=str(content["model_version"]),
            kept=dict(content["kept"]),
            validation=tuple(map(dict, content["validation"])),
            files={str(name): str(hash_) for name, hash_ in content["files"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{path} must be the manifest of a bundle of format {FORMAT}, got {error!r}; {remedy}"
        ) from error


def verify_bundle(folder: Path) -> BundleManifest:
    """Compare every file of a bundle with its manifest, and the version with the files; return the manifest.

    Raises:
        ArtifactError: a file changed, is missing or was added, or the version is of other files.
    """
    manifest = read_manifest(folder)
    found = _hashes(folder)
    wrong = sorted(name for name in {*found, *manifest.files} if found.get(name) != manifest.files.get(name))
    if wrong:
        what = "was added" if wrong[0] not in manifest.files else "changed" if wrong[0] in found else "is missing"
        raise ArtifactError(
            f"{folder} must hold the files of its manifest, but {wrong[0]} {what} ({len(wrong)} such files); "
            f"make the bundle again, or copy it whole"
        )
    if _version(found) != manifest.model_version:
        raise ArtifactError(
            f"{folder / FILE} must name the version {_version(found)} of its files, got {manifest.model_version}; "
            f"make the bundle again"
        )
    return manifest


def _hashes(folder: Path) -> dict[str, str]:
    return {name: hash_ for name, hash_ in hash_folder(folder).items() if name != FILE}


def _version(files: Mapping[str, str]) -> str:
    return hash_value(dict(files))[:_VERSION_LENGTH]
