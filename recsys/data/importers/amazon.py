"""Importing Amazon reviews of 2014, 2018 and 2023: JSON lines of reviews and, if there, of metadata."""

import math
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from recsys.core.errors import DataError, IdError
from recsys.data import schema
from recsys.data.columns import text_of
from recsys.data.ids import id_text
from recsys.data.importers.json_lines import objects_of
from recsys.data.options import ImportOptions
from recsys.data.table import BadRows, Dataset, build_dataset

_SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")


def import_amazon(source: Path, options: ImportOptions) -> Dataset:
    """Import a reviews file, or a folder with one; metadata is the file ``meta_*`` beside it."""
    reviews, metadata = _files(source)
    rows, bad = _reviews(reviews)
    items = None
    if metadata is not None:
        items, item_bad = _metadata(metadata, wanted=set(rows[schema.ITEM].to_pylist()))
        bad.update(item_bad)
    options = replace(options, time_unit="s")
    return build_dataset(rows, items, bad_rows=BadRows().plus(bad), where=str(reviews), options=options)


def _files(source: Path) -> tuple[Path, Path | None]:
    if not source.exists():
        raise DataError(f"{source} must be a reviews file or a folder with one, got nothing there; check the path")
    folder = source if source.is_dir() else source.parent
    found = sorted(path for path in folder.iterdir() if path.name.endswith(_SUFFIXES) and path.is_file())
    metadata = [path for path in found if path.name.lower().startswith("meta")]
    if source.is_file():
        stem = source.name.split(".")[0].removeprefix("reviews_").removesuffix("_5")
        own = [path for path in metadata if path.name.split(".")[0].lower() == f"meta_{stem}".lower()]
        return source, own[0] if own else None
    reviews = [path for path in found if path not in metadata]
    if len(reviews) != 1 or len(metadata) > 1:
        raise DataError(
            f"{source} must hold one reviews file and at most one meta_* file, "
            f"got {[p.name for p in found][:10]}; name the reviews file itself"
        )
    return reviews[0], metadata[0] if metadata else None


def _reviews(path: Path) -> tuple[pa.Table, Counter[str]]:
    bad: Counter[str] = Counter()
    users: list[str | None] = []
    items: list[str | None] = []
    times: list[float | int | None] = []
    ratings: list[float | None] = []
    known = False
    for row in objects_of(path, bad):
        new = "user_id" in row
        known = known or new or "reviewerID" in row
        users.append(_id(row.get("user_id" if new else "reviewerID")))
        items.append(_id((row.get("parent_asin") or row.get("asin")) if new else row.get("asin")))
        time = _number(row.get("timestamp" if new else "unixReviewTime"))
        times.append(None if time is None else int(time // 1000 if new else time))
        ratings.append(_number(row.get("rating" if new else "overall")))
    if not known:
        raise DataError(
            f"{path}, line 1: column 'reviewerID' or 'user_id' must be there, "
            f"got {len(users)} JSON objects without ({dict(bad)}); take a reviews file of 2014, 2018 or 2023"
        )
    table = pa.table(
        {
            schema.USER: pa.array(users, pa.string()),
            schema.ITEM: pa.array(items, pa.string()),
            schema.TIMESTAMP: pa.array(times, pa.int64()),
            schema.RATING: pa.array(ratings, pa.float64()),
        }
    )
    return table, bad


def _metadata(path: Path, *, wanted: set[str | None]) -> tuple[pa.Table, Counter[str]]:
    bad: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        for row in objects_of(path, bad, python_dicts=True):
            item = _id(row.get("parent_asin") or row.get("asin"))
            if item is None:
                bad["null item_id in items"] += 1
            elif item not in wanted:
                bad["metadata of an item without reviews"] += 1
            else:
                rows.append(_item(item, row))
    table_schema = pa.schema(
        [
            (schema.ITEM, pa.string()),
            (schema.TITLE, pa.string()),
            (schema.BRAND, pa.string()),
            (schema.CATEGORIES, pa.list_(pa.string())),
            (schema.TEXT, pa.string()),
        ]
    )
    return pa.Table.from_pylist(rows, schema=table_schema), Counter(
        {cause if "item" in cause else f"{cause} in items": n for cause, n in bad.items()}
    )


def _item(item: str, row: dict[str, Any]) -> dict[str, Any]:
    title, brand = _text(row.get("title")), _text(row.get("brand") or row.get("store"))
    categories = _categories(row.get("categories") or row.get("category"))
    text = text_of(title=title, brand=brand, categories=categories, more=_text(row.get("description")))
    return {
        schema.ITEM: item,
        schema.TITLE: title,
        schema.BRAND: brand,
        schema.CATEGORIES: categories,
        schema.TEXT: text,
    }


def _categories(value: object) -> list[str]:
    """Return the first path of categories, general to specific, whether nested or flat."""
    if isinstance(value, list) and value and isinstance(value[0], list):
        value = value[0]
    if not isinstance(value, list):
        value = [value]
    return [text for text in map(_text, value) if text]


def _text(value: object) -> str | None:
    """Return text, the parts of a list joined, without what UTF-8 cannot hold."""
    if isinstance(value, list):
        value = " ".join(part for part in value if isinstance(part, str))
    if not isinstance(value, str) or not value.strip():
        return None
    return value.strip().encode("utf-8", "replace").decode("utf-8")


def _id(value: object) -> str | None:
    """Return an id; None, which is counted as null, where the value is none."""
    try:
        return id_text(value)
    except IdError:
        return None


def _number(value: object) -> float | int | None:
    """Return a finite number that fits 64 bits, also when written as text."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if abs(value) < 2**62 else None
