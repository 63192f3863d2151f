"""The part of a recipe that a stage declares: it can be read, and nothing else can."""

from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel

from pipelines.recipe import Recipe
from recsys.core.config import essential
from recsys.core.errors import UndeclaredError

ALWAYS = ("seed", "threads")
"""What every stage depends on."""


class _View:
    """Some fields of a configuration; a field that is named by a path is itself such a view."""

    def __init__(self, value: BaseModel, fields: Mapping[str, Any], stage: str, path: str = "") -> None:
        self._value, self._fields, self._stage, self._path = value, fields, stage, path

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in self._fields:
            raise UndeclaredError(
                f"stage {self._stage} must declare what it reads of the recipe, got a read of {self._path}{name}; "
                f"add it to the sections of the stage in pipelines/flow.py"
            )
        found, below = getattr(self._value, name), self._fields[name]
        return _View(found, below, self._stage, f"{self._path}{name}.") if below else found


def declared(recipe: Recipe, stage: str, sections: tuple[str, ...]) -> Recipe:
    """Return a recipe of which only the named sections (``model``) and settings (``model.max_history``) can be read."""
    return cast(Recipe, _View(recipe, _tree((*ALWAYS, *sections)), stage))


def settings(recipe: Recipe, sections: tuple[str, ...]) -> dict[str, Any]:
    """Return the same part of a recipe as plain values: what the key of a stage is made of.

    Settings at the value that is marked as :class:`Neutral` are left out, so that a setting can be added and stages
    that were made before stay current. A setting without the mark always counts.
    """
    return essential(recipe, recipe.model_dump(mode="json", include=_included(_tree((*ALWAYS, *sections)))))


def _tree(paths: tuple[str, ...]) -> dict[str, Any]:
    """Return dotted paths as nested mappings; an empty one stands for all that is below."""
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        node = tree
        for name in path.split("."):
            node = node.setdefault(name, {})
    return tree


def _included(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _included(below) if below else True for name, below in tree.items()}
