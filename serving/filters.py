"""Filters: from conditions over item columns to a mask over rows."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from recsys.core.arrays import BoolArray
from serving.items import ItemTable
from serving.problems import Fault, ProblemError, shown
from serving.schemas.common import Condition, Filter

_ORDERS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def filter_mask(items: ItemTable, wanted: Filter, *, where: str = "body.filter") -> BoolArray:
    """Return which items fulfil a filter.

    Args:
        items: of the release.
        wanted: the filter.
        where: what to call it in a problem document.

    Shape:
        return: (items,).
    """
    mask_N = np.ones(len(items), np.bool_)
    if wanted.category is not None:
        mask_N &= _in_categories(items, [wanted.category], f"{where}.category")
    if wanted.category_in is not None:
        mask_N &= _in_categories(items, wanted.category_in, f"{where}.category_in")
    if wanted.category_not:
        mask_N &= ~_in_categories(items, wanted.category_not, f"{where}.category_not")
    for place, condition in enumerate(wanted.where):
        at = f"{where}.where.{place}"
        key = condition.model_dump_json()
        mask_N &= items.cached(key, lambda condition=condition, at=at: condition_mask(items, condition, where=at))  # type: ignore[misc]
    return mask_N


def condition_mask(items: ItemTable, condition: Condition, *, where: str) -> BoolArray:
    """Return which items meet a condition on a column.

    Shape:
        return: (items,).
    """
    values = items.values(condition.field)
    if values is None:
        raise unknown(f"{where}.field", "a column of the items", condition.field, items.columns.column_names)
    if condition.op in _ORDERS:
        return _ordered(values, condition, where)
    wanted = {_key(value) for value in (condition.value if isinstance(condition.value, list) else [condition.value])}
    has = (not wanted.isdisjoint(_keys(value)) for value in values)
    mask_N = np.fromiter(has, np.bool_, len(values))
    return ~mask_N if condition.op in ("not", "not in") else mask_N


def unknown(where: str, wanted: str, came: str, known: Sequence[str]) -> ProblemError:
    """Return the problem of a name that is not known, with the names that are."""
    some = ", ".join(repr(name) for name in list(known)[:10])
    fault = Fault(where=where, wanted=wanted, came=shown(came), change=f"use one that is there, e.g. {some}"[:500])
    return ProblemError(422, f"{where.removeprefix('body.')} must be {wanted}", faults=[fault])


def _in_categories(items: ItemTable, names: Sequence[str], where: str) -> BoolArray:
    mask_N = np.zeros(len(items), np.bool_)
    for name in names:
        members = items.members(name)
        if members is None:
            raise unknown(where, "a category of the catalogue", name, items.some_categories())
        mask_N[members] = True
    return mask_N


def _ordered(values: Sequence[Any], condition: Condition, where: str) -> BoolArray:
    numbers = np.array(
        [value if isinstance(value, int | float) and not isinstance(value, bool) else np.nan for value in values],
        dtype=np.float64,
    )
    if np.isnan(numbers).all() and any(value is not None for value in values):
        raise unknown(f"{where}.field", "a column of numbers for an order", condition.field, ["a numeric column"])
    with np.errstate(invalid="ignore"):
        return np.asarray(_ORDERS[condition.op](numbers, condition.value), np.bool_)


def _keys(value: object) -> list[tuple[bool, Any]]:
    if value is None:
        return []
    return [_key(part) for part in value if part is not None] if isinstance(value, list) else [_key(value)]


def _key(value: object) -> tuple[bool, Any]:
    """Return what makes values equal: text by its letters whatever their case, truth values apart from numbers."""
    return isinstance(value, bool), value.casefold() if isinstance(value, str) else value
