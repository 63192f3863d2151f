"""Importing MovieLens: GroupLens' ml-100k, RecBole's copy of it, and ml-latest."""

import re
from pathlib import Path

import pyarrow as pa

from recsys.core.errors import DataError
from recsys.data import schema
from recsys.data.columns import text_of
from recsys.data.importers.delimited import WRONG_FIELDS, Form, read_delimited
from recsys.data.importers.raw import RawTable
from recsys.data.options import ImportOptions
from recsys.data.table import BadRows, Dataset, build_dataset

_GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary"),
    *("Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi"),
    *("Thriller", "War", "Western"),
)
_FIRST_GENRE = 5
_INTERACTION_COLUMNS = (schema.USER, schema.ITEM, schema.RATING, schema.TIMESTAMP)


def import_movielens(source: Path, options: ImportOptions) -> Dataset:
    """Import a MovieLens folder (or its ratings file), whichever of the three layouts it has."""
    folder = source.parent if source.is_file() else source
    if (folder / "u.data").exists():
        form = Form(delimiter="\t", quoted=False, names=_INTERACTION_COLUMNS)
        rows, counts = _parts(read_delimited(folder / "u.data", form))
        items, item_counts = _grouplens_items(folder)
    elif inter := sorted(folder.glob("*.inter")):
        rows, counts = _recbole_table(inter[0], _INTERACTION_COLUMNS)
        items, item_counts = _recbole_items(inter[0].with_suffix(".item"))
    elif (folder / "ratings.csv").exists():
        rows, counts = _parts(read_delimited(folder / "ratings.csv", Form(delimiter=",")))
        rows = _renamed(rows, {"userId": schema.USER, "movieId": schema.ITEM}, folder / "ratings.csv")
        items, item_counts = _latest_items(folder / "movies.csv")
    else:
        raise DataError(
            f"{source} must be a MovieLens folder with u.data, *.inter or ratings.csv, got none of them; "
            "unpack the archive and name the folder inside"
        )
    bad = BadRows().plus(counts).plus({f"{cause} in items": n for cause, n in item_counts.items()})
    return build_dataset(rows, items, bad_rows=bad, where=str(source), options=options)


def _parts(raw: RawTable) -> tuple[pa.Table, dict[str, int]]:
    return raw.table, dict(raw.counts)


def _grouplens_items(folder: Path) -> tuple[pa.Table | None, dict[str, int]]:
    path = folder / "u.item"
    if not path.exists():
        return None, {}
    rows = [line.split("|") for line in _lines(path, "latin-1") if line]
    good = [row for row in rows if len(row) == _FIRST_GENRE + len(_GENRES)]
    table = _items(
        [row[0] for row in good],
        [row[1] for row in good],
        [[g for g, flag in zip(_GENRES, row[_FIRST_GENRE:], strict=True) if flag == "1"] for row in good],
    )
    return table, {WRONG_FIELDS: len(rows) - len(good)}


def _recbole_items(path: Path) -> tuple[pa.Table | None, dict[str, int]]:
    if not path.exists():
        return None, {}
    table, counts = _recbole_table(path, (schema.ITEM,))
    columns: dict[str, list[str | None]] = {
        name: table[name].to_pylist() if name in table.column_names else [None] * table.num_rows
        for name in (schema.ITEM, "movie_title", "release_year", "class")
    }
    titles = [
        _with_year(title, year) for title, year in zip(columns["movie_title"], columns["release_year"], strict=True)
    ]
    genres = [(text or "").split() for text in columns["class"]]
    return _items(columns[schema.ITEM], titles, genres), counts


def _recbole_table(path: Path, required: tuple[str, ...]) -> tuple[pa.Table, dict[str, int]]:
    """Read a RecBole atomic file: tabs, and a header whose names end in a type."""
    table, counts = _parts(read_delimited(path, Form(delimiter="\t", quoted=False)))
    table = table.rename_columns([name.split(":")[0] for name in table.column_names])
    return _renamed(table, {name: name for name in required}, path), counts


def _latest_items(path: Path) -> tuple[pa.Table | None, dict[str, int]]:
    if not path.exists():
        return None, {}
    table, counts = _parts(read_delimited(path, Form(delimiter=",")))
    table = _renamed(table, {"movieId": schema.ITEM, "title": schema.TITLE, "genres": "genres"}, path)
    genres = [
        [] if text in (None, "", "(no genres listed)") else text.split("|") for text in table["genres"].to_pylist()
    ]
    return _items(table[schema.ITEM].to_pylist(), table[schema.TITLE].to_pylist(), genres), counts


def _items(ids: list[str | None], titles: list[str | None], genres: list[list[str]]) -> pa.Table:
    texts = [text_of(title=t, brand=None, categories=g) for t, g in zip(titles, genres, strict=True)]
    return pa.table(
        {
            schema.ITEM: pa.array(ids, pa.string()),
            schema.TITLE: pa.array(titles, pa.string()),
            schema.CATEGORIES: pa.array(genres, pa.list_(pa.string())),
            schema.TEXT: pa.array(texts, pa.string()),
        }
    )


def _with_year(title: str | None, year: str | None) -> str | None:
    if not title or not re.fullmatch(r"\d{4}", year or "") or re.search(r"\(\d{4}\)$", title):
        return title
    return f"{title} ({year})"


def _renamed(table: pa.Table, names: dict[str, str], path: Path) -> pa.Table:
    """Rename columns, or say which one the file lacks."""
    for name in names:
        if table.column_names.count(name) != 1:
            raise DataError(
                f"{path}, line 1: column {name!r} must be there once, got {table.column_names[:20]}; "
                "take the file as published"
            )
    return table.rename_columns([names.get(name, name) for name in table.column_names])


def _lines(path: Path, encoding: str) -> list[str]:
    try:
        return path.read_bytes().decode(encoding).replace("\r\n", "\n").split("\n")
    except OSError as error:
        raise DataError(f"{path} must be a readable file, got {error}; check the path") from error
