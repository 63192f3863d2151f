"""Assembles the page: every section that can be made, a sentence for every one that cannot, and one template."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from pipelines.recommend import item_titles
from pipelines.report import sections
from pipelines.report.replay_section import replay
from pipelines.report.run_files import made, read
from pipelines.report.token_experts_section import token_experts
from pipelines.report.tokenizer_sections import facet_sample, tokenizer
from pipelines.report.training_sections import data_pruning, training
from pipelines.show import share
from pipelines.stages.evaluate import OURS
from recsys.codes.catalogue import Catalogue
from recsys.codes.words import code_words
from recsys.contracts import History, Slate, requests_for
from recsys.contracts import Path as TokenPath
from recsys.core.artifacts import atomic_file, require
from recsys.core.writable import require_writable_folder
from recsys.data.prepare import load_prepared
from recsys.recommender.bundle import load_bundle

_SHOWN_USERS = 5
_SHOWN_HISTORY = 6
_SHOWN_ITEMS = 5
_SHOWN_PRUNED = 3


@dataclass(frozen=True, kw_only=True)
class ShownItem:
    """An item of a slate: its title, its score, and the steps of its best path in words, none without a path."""

    title: str
    score: float
    steps: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class PrunedPath:
    """The steps of a path in words, and why it was cut."""

    steps: Sequence[str]
    reason: str


@dataclass(frozen=True, kw_only=True)
class ExampleUser:
    """A user's id, how many events there are of it, its latest titles, its slate, and paths that were pruned."""

    name: str
    events: int
    recent: Sequence[str]
    items: Sequence[ShownItem]
    pruned: Sequence[PrunedPath]


@dataclass(frozen=True, kw_only=True)
class UsersSection:
    """A few users and what they are recommended."""

    users: Sequence[ExampleUser]


def write_report(run: Path) -> Path:
    """Write ``reports/report.html``, one self-contained page about a run, and return its path.

    A section whose files are missing says so in a sentence.

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
            name=read(run, "source.json")["name"] if source.exists() else run.resolve().name,
            ours=OURS,
            bundle=made(lambda folder: read(folder, "bundle/manifest.json"), run),
            **{name: made(build, run) for name, build in _SECTIONS.items()},
        )
    )
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def example_users(run: Path) -> UsersSection:
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
    return UsersSection(
        users=[
            _user(str(prepared.user_ids[user]), history, slate, titles, bundle.catalogue)
            for user, history, slate in zip(shown, histories, slates, strict=True)
        ]
    )


def _user(name: str, history: History, slate: Slate, titles: Sequence[str], catalogue: Catalogue) -> ExampleUser:
    items = []
    for rank, (item, score) in enumerate(zip(slate.items, slate.scores, strict=True)):
        paths = slate.paths[rank] if slate.paths else ()
        steps = _steps(paths[0], catalogue) if paths else []
        items.append(ShownItem(title=titles[int(item)], score=float(score), steps=steps))
    return ExampleUser(
        name=name,
        events=len(history.items),
        recent=[titles[int(item)] for item in history.items[-_SHOWN_HISTORY:]],
        items=items,
        pruned=[PrunedPath(steps=_steps(path, catalogue), reason=path.reason) for path in slate.pruned[:_SHOWN_PRUNED]],
    )


def _steps(path: TokenPath, catalogue: Catalogue) -> list[str]:
    return [code_words(catalogue.facets, step.codebook, step.code) for step in path.steps]


_SECTIONS: dict[str, Callable[[Path], object]] = {
    "headline": sections.headline,
    "evaluation": sections.evaluation,
    "replay": replay,
    "training": training,
    "data_pruning": data_pruning,
    "alignment": sections.alignment,
    "curves": sections.curves,
    "token_experts": token_experts,
    "tokenizer": tokenizer,
    "facets": facet_sample,
    "users": example_users,
    "costs": sections.costs,
}


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
