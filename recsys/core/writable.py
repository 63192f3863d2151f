"""Checks that a folder or a file can be written, before work begins whose result goes there."""

import tempfile
from pathlib import Path

from recsys.core.errors import ArtifactError


def require_writable_folder(folder: Path) -> Path:
    """Make a folder if there is none, and check that a file can be made in it.

    Raises:
        ArtifactError: the folder cannot be made or written; says why.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".recsys."):
            pass
    except OSError as error:
        raise ArtifactError(
            f"{folder} must be a folder that can be written, got {error.strerror or error}; choose another place, or "
            "mend its rights"
        ) from error
    return folder


def require_writable_file(path: Path) -> Path:
    """Check that a file can be written: its folder is there and takes files, and it is no folder itself.

    Raises:
        ArtifactError: the file cannot be written; says why.
    """
    if path.is_dir():
        raise ArtifactError(f"{path} must be a file, got a folder; choose another name")
    if not path.parent.is_dir():
        raise ArtifactError(f"{path} must lie in a folder that exists, got none called {path.parent}; make it first")
    require_writable_folder(path.parent)
    return path
