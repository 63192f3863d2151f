"""Files that commands read and write: the recipe of a run, results as JSON; imports are lazy, so help is instant."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.recipe import Recipe


def recipe_of(run: Path) -> "Recipe":
    """Return the recipe of a run."""
    from pipelines.recipe import load_recipe
    from recsys.core.artifacts import require

    return load_recipe(str(require(run / "recipe.toml", remedy=f"run `recsys train DATA --to {run}` first")))


def write_result(path: Path | None, result: Any) -> None:
    """Write a result as JSON where a file was named."""
    if path is not None:
        path.write_text(json.dumps(result, indent=2) + "\n")
