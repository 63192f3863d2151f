"""Reading categories, however they are written, as lists of words from general to specific."""

import ast
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from recsys.data.ids import BLANKS, NULL_WORDS

_LIST = pa.list_(pa.string())


def category_lists(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return categories as lists of text.

    Text may be ``general|specific``, ``general > specific``, a JSON list or a Python list; blanks around a word are
    cut off, empty words are left out, words that stand for nothing become null. Of a list of lists the first counts.
    """
    if pa.types.is_null(column.type):
        return column.cast(_LIST)
    if pa.types.is_string(column.type):
        encoded = column.combine_chunks().dictionary_encode()
        encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
        lists = pa.array([_parsed(text) for text in encoded.dictionary.to_pylist()], _LIST)
        return pa.chunked_array([lists.take(encoded.indices)])
    return pa.chunked_array(
        [pa.array([None if value is None else _words(value) for value in column.to_pylist()], _LIST)]
    )


def _parsed(text: str) -> list[str] | None:
    text = text.strip(BLANKS)
    if text in NULL_WORDS:
        return None
    if text.startswith("[") and text.endswith("]"):
        value = _literal(text)
        if isinstance(value, list):
            return _words(value)
    return _words(text.split("|") if "|" in text else text.split(" > "))


def _literal(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _words(value: Sequence[object]) -> list[str]:
    """Return the words of a list, of its first list where it holds lists."""
    if value and isinstance(value[0], list | tuple | np.ndarray):
        value = list(value[0])
    words = [str(part).strip(BLANKS) for part in value if part is not None]
    return [word.encode("utf-8", "replace").decode("utf-8") for word in words if word not in NULL_WORDS]
