"""Importers: from published formats to the data contract, one module per format."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from recsys.core.errors import CallError, DataError
from recsys.data.importers.amazon import import_amazon
from recsys.data.importers.coat import import_coat
from recsys.data.importers.kuairand import import_kuairand
from recsys.data.importers.movielens import import_movielens
from recsys.data.importers.open_bandit import import_open_bandit
from recsys.data.importers.tabular import import_any, import_csv, import_json, import_parquet
from recsys.data.options import ImportOptions
from recsys.data.table import Dataset

IMPORTERS: dict[str, Callable[[Path, ImportOptions], Dataset]] = {
    "auto": import_any,
    "csv": import_csv,
    "parquet": import_parquet,
    "jsonl": import_json,
    "movielens": import_movielens,
    "amazon-reviews": import_amazon,
    "kuairand": import_kuairand,
    "open-bandit": import_open_bandit,
    "coat": import_coat,
}


def import_dataset(format: str, source: Path, options: ImportOptions | None = None) -> Dataset:
    """Import ``source`` written in one of the :data:`IMPORTERS`' formats."""
    if format not in IMPORTERS:
        raise CallError(f"the format must be one of {', '.join(IMPORTERS)}, got {format!r}; choose one of these")
    try:
        return IMPORTERS[format](source, options or ImportOptions())
    except OSError as error:
        raise DataError(f"{source} must be readable, got {error}; check the path and its rights") from error
    except pa.ArrowException as error:
        raise DataError(f"{source} must hold columns of types that fit together, got {error}; convert them") from error
