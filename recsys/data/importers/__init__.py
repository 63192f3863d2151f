"""Importers: from published formats to the data contract, one module per format."""

from collections.abc import Callable
from pathlib import Path

from recsys.core.errors import CallError
from recsys.data.importers.amazon import import_amazon
from recsys.data.importers.movielens import import_movielens
from recsys.data.importers.tabular import import_csv, import_parquet
from recsys.data.table import Dataset

IMPORTERS: dict[str, Callable[[Path], Dataset]] = {
    "movielens": import_movielens,
    "amazon-reviews": import_amazon,
    "csv": import_csv,
    "parquet": import_parquet,
}


def import_dataset(format: str, source: Path) -> Dataset:
    """Import ``source`` written in one of the :data:`IMPORTERS`' formats."""
    if format not in IMPORTERS:
        raise CallError(f"the format must be one of {', '.join(IMPORTERS)}, got {format!r}; choose one of these")
    return IMPORTERS[format](source)
