"""A folder of the runtime: settings beside arrays, of one format.

config.json          format, settings
weights.safetensors  the arrays
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from recsys.core.artifacts import require, write_json
from recsys.core.errors import ArtifactError
from recsys.runtime.compiled import aligned

REMEDY = "make the bundle again"
_CONFIG, _WEIGHTS = "config.json", "weights.safetensors"
_Arrays = dict[str, NDArray[Any]]


def write_folder(folder: Path, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], *, form: int) -> None:
    """Write settings and arrays into a new folder; ``form`` is the number of their format."""
    folder.mkdir()
    write_json(folder / _CONFIG, {"format": form, **settings})
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / _WEIGHTS)


def read_folder(folder: Path, *, form: int) -> tuple[dict[str, Any], _Arrays]:
    """Read what :func:`write_folder` wrote, arrays aligned to cache lines.

    Raises:
        ArtifactError: a file is missing, unreadable or of another format.
    """
    path = require(folder / _CONFIG, remedy=REMEDY)
    weights = require(folder / _WEIGHTS, remedy=REMEDY)
    try:
        settings = dict(json.loads(path.read_text()))
        arrays = {name: aligned(array) for name, array in load_file(weights).items()}
    except (TypeError, ValueError, OSError, SafetensorError) as error:
        raise ArtifactError(f"{folder} must hold settings and arrays of a runtime, got {error!r}; {REMEDY}") from error
    if (found := settings.pop("format", None)) != form:
        raise ArtifactError(f"{path} must have format {form}, got {found!r}; {REMEDY}")
    return settings, arrays
