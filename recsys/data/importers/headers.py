"""Maps a source's column names to the contract's: by the caller's options, the contract's own names, known aliases."""

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from recsys.core.errors import CallError, DataError
from recsys.data import schema

Kind = Literal["interactions", "items"]

_INTERACTIONS: Final = {
    schema.USER: (
        *("userid", "user", "uid", "customerid", "customer", "reviewerid", "memberid", "visitorid", "accountid"),
        *("customerno", "customernumber", "clientid", "buyerid"),
        *("kunde", "kundenid", "kundennr", "kundennummer", "nutzer", "nutzerid"),
    ),
    schema.ITEM: (
        *(
            "itemid",
            "item",
            "iid",
            "productid",
            "product",
            "parentasin",
            "asin",
            "movieid",
            "movie",
            "sku",
            "articleid",
        ),
        *("productno", "productnumber", "productcode", "itemno", "itemnumber", "itemcode", "articleno", "stockcode"),
        *("trackid", "songid", "bookid", "isbn", "videoid", "newsid", "businessid", "goodsid", "contentid"),
        *("artikel", "artikelid", "artikelnr", "artikelnummer", "produkt", "produktid", "produktnummer"),
    ),
    schema.TIMESTAMP: (
        *("timestamp", "ts", "time", "datetime", "date", "eventtime", "createdat", "unixtime", "unixreviewtime"),
        *("timems", "invoicedate", "orderdate", "purchasedate", "purchasedat", "orderedat", "boughtat", "viewedat"),
        *("clickedat", "datum", "zeitpunkt", "zeitstempel", "bestelldatum", "kaufdatum"),
    ),
    schema.EVENT_TYPE: ("eventtype", "event", "behavior", "behaviour", "behaviortype", "action", "actiontype"),
    schema.RATING: ("rating", "stars", "overall"),
    schema.WEIGHT: ("weight",),
    schema.POSITION: ("position",),
}
_ITEMS: Final = {
    schema.ITEM: (*_INTERACTIONS[schema.ITEM], "id"),
    schema.TITLE: ("title", "name", "itemname", "productname", "movietitle", "producttitle", "bezeichnung", "titel"),
    schema.BRAND: ("brand", "brandname", "manufacturer", "store", "marke", "hersteller"),
    schema.CATEGORIES: (
        "categories",
        "category",
        "genres",
        "genre",
        "categoryname",
        "class",
        "kategorie",
        "kategorien",
        "warengruppe",
    ),
    schema.TEXT: ("text", "description", "beschreibung"),
}
_ALIASES: Final[dict[Kind, Mapping[str, tuple[str, ...]]]] = {"interactions": _INTERACTIONS, "items": _ITEMS}
_REQUIRED: Final[dict[Kind, tuple[str, ...]]] = {
    "interactions": schema.REQUIRED_INTERACTION_COLUMNS,
    "items": schema.REQUIRED_ITEM_COLUMNS,
}
_RECBOLE = re.compile(r"^(.+):(token|token_seq|float|float_seq)$")
_NO_NAME = re.compile(r"^(Unnamed: \d+|)$")


def num_recognised(names: Sequence[str]) -> int:
    """Return how many names are known as columns of interactions or items."""
    known = {alias for aliases in _ALIASES.values() for words in aliases.values() for alias in words}
    return sum(_plain(name) in known for name in names)


def kind_of(names: Sequence[str], columns: Mapping[str, str]) -> Kind | None:
    """Tell from its column names whether a table holds interactions, items, or neither."""
    lacking = lacking_of(names, columns)
    if not lacking:
        return "interactions"
    has_item = columns.get(schema.ITEM) in names or not _plain_names(names).isdisjoint(_ITEMS[schema.ITEM])
    return "items" if has_item and schema.USER in lacking else None


def lacking_of(names: Sequence[str], columns: Mapping[str, str]) -> list[str]:
    """Return the columns of interactions that no name of a table is read as."""
    plain = _plain_names(names)
    return [
        name
        for name in schema.REQUIRED_INTERACTION_COLUMNS
        if columns.get(name) not in names and plain.isdisjoint(_INTERACTIONS[name])
    ]


def _plain_names(names: Sequence[str]) -> set[str]:
    return {_plain(name) for name in names}


def understood(table: pa.Table, kind: Kind, columns: Mapping[str, str], where: str) -> tuple[pa.Table, tuple[str, ...]]:
    """Rename a table's columns to the contract's names; return it and what was understood.

    The caller's options count first, then the contract's own names, then aliases of other tools.

    Raises:
        DataError: a needed column is not there, or several may be meant.
    """
    table, notes = _without_no_name(table)
    names, recbole = table.column_names, all(_RECBOLE.match(name) for name in table.column_names)
    meant = {}
    for name in _ALIASES[kind]:
        if theirs := _meant(name, kind, names, columns, where):
            meant[theirs] = name
    renamed = [meant.get(name) or (_RECBOLE.sub(r"\1", name) if recbole else name) for name in names]
    if len(meant) < len([name for name in renamed if name in meant.values()]):
        keep = [place for place, name in enumerate(names) if name in meant or renamed[place] not in meant.values()]
        lost = [name for place, name in enumerate(names) if place not in keep]
        notes.append(f"columns of the {kind} that nothing uses: {', '.join(map(repr, lost))}")
        table, renamed = table.select(keep), [renamed[place] for place in keep]
    changed = [f"{theirs!r} as {name}" for theirs, name in meant.items() if theirs != name]
    if changed:
        notes.append(f"columns of the {kind} are read: {', '.join(changed)}")
    table = table.rename_columns(renamed)
    return (_with_word_lists(table) if recbole else table), tuple(notes)


def _meant(name: str, kind: Kind, names: list[str], columns: Mapping[str, str], where: str) -> str | None:
    """Return which column is meant by a contract name."""
    needed = name in _REQUIRED[kind]
    mapped = columns.get(name)
    if mapped is not None and mapped in names:
        return mapped
    if name in names and mapped is None:
        return name
    found = [other for other in names if _plain(other) in _ALIASES[kind][name] and other not in columns.values()]
    if mapped is not None and kind == "interactions":
        raise DataError(f"{where}: column {mapped!r} (--map {name}={mapped}) must be there, got columns {names[:20]}")
    if len(found) == 1:
        return found[0]
    if found and needed:
        raise DataError(
            f"{where}: one column must be {name}, got {found}; say which by --map {name}={found[0]} "
            f"or --map {name}={found[1]}"
        )
    if needed:
        raise DataError(
            f"{where}: column {name!r} must be there, got columns {names[:20]}; name the one that is meant by "
            f"--map {name}=ITS_NAME, or by its number (--map {name}=1) where the file has no header line"
        )
    return None


def parse_map(pairs: Sequence[str]) -> dict[str, str]:
    """Read ``CONTRACT_NAME=ITS_NAME`` options.

    >>> parse_map(["item_id=sku"])
    {'item_id': 'sku'}
    """
    known = [*_INTERACTIONS, *(name for name in _ITEMS if name not in _INTERACTIONS)]
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, theirs = pair.partition("=")
        if not equals or name not in known or not theirs:
            raise CallError(f"--map must be NAME=ITS_NAME with NAME among {', '.join(known)}, got {pair!r}")
        found[name] = theirs
    return found


def _plain(name: str) -> str:
    """Return a name without RecBole's type, capitals, blanks, dots, dashes and underscores."""
    return re.sub(r"[\s._\-\ufeff]", "", _RECBOLE.sub(r"\1", name.strip())).casefold()


def _without_no_name(table: pa.Table) -> tuple[pa.Table, list[str]]:
    """Leave out columns without a name, such as the row numbers that some tools write."""
    bare = [name for name in table.column_names if _NO_NAME.match(name.strip())]
    if not bare:
        return table, []
    kept = [place for place, name in enumerate(table.column_names) if name not in bare]
    return table.select(kept), [f"{len(bare)} column without a name is ignored"]


def _with_word_lists(table: pa.Table) -> pa.Table:
    """Split RecBole's categories, which are words with blanks between them."""
    if schema.CATEGORIES not in table.column_names:
        return table
    at = table.column_names.index(schema.CATEGORIES)
    return table.set_column(at, schema.CATEGORIES, pc.split_pattern(table[schema.CATEGORIES], " "))
