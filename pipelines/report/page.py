"""Assembles the page: every part that can be made, a sentence for every part that cannot, and one template."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from pipelines.recommend import item_titles
from pipelines.report import parts
from pipelines.report.belief_part import beliefs
from pipelines.report.replay_part import replay
from pipelines.report.training_part import data_pruning, training
from pipelines.show import share
from pipelines.stages.evaluate import OURS
from recsys.codes.words import SEPARATOR, path_words
from recsys.contracts import History, Slate, requests_for
from recsys.core.artifacts import atomic_file, require
from recsys.core.errors import RecsysError
from recsys.core.places import require_writable_folder
from recsys.data.prepare import load_prepared
from recsys.recommender.bundle import load_bundle

_SHOWN_USERS = 5
_SHOWN_HISTORY = 6
_SHOWN_ITEMS = 5
_SHOWN_PRUNED = 3
_PARTS: tuple[tuple[str, Callable[[Path], dict[str, Any]]], ...] = (
    ("headline", parts.headline),
    ("evaluation", parts.evaluation),
    ("replay", replay),
    ("training", training),
    ("data_pruning", data_pruning),
    ("alignment", parts.alignment),
    ("curves", parts.curves),
    ("beliefs", beliefs),
    ("tokenizer", parts.tokenizer),
    ("facets", parts.facet_sample),
    ("costs", parts.costs),
)


def write_report(run: Path) -> Path:
    """Write ``reports/report.html``, one self-contained page about a run, and return its path.

    A part whose files are missing says so in a sentence.

    Raises:
        ArtifactError: the folder is no run at all, or cannot be written.
    """
    inner = " (or did you mean the folder run in it?)" if (run / "run" / "recipe.toml").exists() else ""
    require(run / "recipe.toml", remedy=f"name a run folder{inner} or make one with `recsys train DATA --to {run}`")
    path = require_writable_folder(run / "reports") / "report.html"
    source = run / "source.json"
    page = (
        environment()
        .get_template("report.html.j2")
        .render(
            name=parts.read(run, "source.json")["name"] if source.exists() else run.resolve().name,
            ours=OURS,
            users=made(run, example_users),
            bundle=made(run, lambda folder: parts.read(folder, "bundle/manifest.json")),
            **{name: made(run, build) for name, build in _PARTS},
        )
    )
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def made(run: Path, build: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Return a part, or a part with nothing but the sentence about what it lacks."""
    try:
        return build(run)
    except RecsysError as error:
        return {"missing": str(error)}


def example_users(run: Path) -> dict[str, Any]:
    """Return a few users spread over the log: their latest titles, what they get, the paths to it and pruned ones."""
    bundle = load_bundle(run / "bundle")
    remedy = f"run `recsys train DATA --to {run}` to make it"
    require(run / "bundle" / "items.parquet", remedy=remedy)
    prepared = load_prepared(require(run / "data", remedy=remedy))
    titles, lengths_U = item_titles(run), prepared.log.lengths_U
    users = np.flatnonzero(lengths_U >= min(_SHOWN_HISTORY, int(lengths_U.max(initial=0))))
    shown = [int(user) for user in users[np.linspace(0, len(users) - 1, min(_SHOWN_USERS, len(users))).astype(int)]]
    histories = [prepared.log.history(user) for user in shown]
    slates = bundle.recommender.recommend(requests_for(histories, n=_SHOWN_ITEMS))
    return {
        "users": [
            _user(str(prepared.user_ids[user]), history, slate, titles, bundle.catalogue)
            for user, history, slate in zip(shown, histories, slates, strict=True)
        ]
    }


def _user(name: str, history: History, slate: Slate, titles: list[str], catalogue: Any) -> dict[str, Any]:
    items = []
    for rank, (item, score) in enumerate(zip(slate.items, slate.scores, strict=True)):
        paths = slate.paths[rank] if slate.paths else ()
        steps = path_words(catalogue.facets, paths[0]).split(SEPARATOR) if paths else []
        items.append({"title": titles[int(item)], "score": float(score), "steps": steps})
    recent = [titles[int(item)] for item in history.items[-_SHOWN_HISTORY:]]
    pruned = [
        {"steps": path_words(catalogue.facets, path).split(SEPARATOR), "reason": path.reason}
        for path in slate.pruned[:_SHOWN_PRUNED]
    ]
    return {"name": name, "events": len(history.items), "recent": recent, "items": items, "pruned": pruned}


def environment() -> Environment:
    """Return the templates of pages, with the filters that write sizes, seconds and shares."""
    found = Environment(
        loader=PackageLoader("pipelines.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"share": share, "size": _size, "seconds": _seconds, "count": "{:,}".format}
    return found


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _seconds(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s" if value >= 0.1 else f"{1000 * value:.0f} ms"
    return f"{int(value // 60)} min {value % 60:.0f} s"
