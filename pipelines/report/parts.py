"""The parts of the page that come from a run's files: each reads what it needs and returns what the template shows.

Axes: N item, M codebook.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipelines.benches.curves import Point
from pipelines.record import read_records
from pipelines.report import plots
from pipelines.stages.evaluate import OURS
from recsys.codes.catalogue import Catalogue
from recsys.core.artifacts import require
from recsys.core.errors import ArtifactError
from recsys.core.seeds import rng_for
from recsys.evaluation.results import Evaluation
from recsys.tokenizer.facets import SEPARATOR, coverage
from recsys.tokenizer.quality import information

Part = dict[str, Any]
_REWARDS = ("rewards_before", "rewards_after")
_FACETS_SHOWN = 3
_TITLES_SHOWN = 3


def read(run: Path, name: str, made_by: str = "recsys train DATA --to") -> Any:
    """Return a JSON file of a run.

    Raises:
        ArtifactError: it is missing or broken; says which command makes it.
    """
    path = require(run / name, remedy=f"run `{made_by} {run}` to make it")
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ArtifactError(f"{path} must be JSON, got {error}; run `{made_by} {run}` again") from error


def headline(run: Path) -> Part:
    """Return the data set's sizes and what preparing it left out, by cause."""
    report = read(run, "data/report.json")
    left_out = {cause: count for cause, count in report.get("bad_rows", {}).items() if count}
    for key, words in (
        ("rows_below_min_rating", "rated too low"),
        ("rows_outside_core", "outside the core of active users and items"),
    ):
        if report.get(key):
            left_out[words] = report[key]
    return {
        "sizes": {key: report[key] for key in ("users", "items", "events")},
        "rows_read": report["rows_read"],
        "left_out": left_out,
    }


def evaluation(run: Path) -> Part:
    """Return the rows of the evaluation by how seen items were treated, with intervals drawn."""
    result = Evaluation.from_json(read(run, "reports/evaluation.json", "recsys evaluate"))
    groups = {
        seen: [row for row in result.rows if row.seen == seen]
        for seen in dict.fromkeys(row.seen for row in result.rows)
    }
    drawn = [
        plots.intervals(
            [(row.recommender, row.accuracy["recall@10"], row.recommender == OURS) for row in rows],
            f"Recall@10, seen items {seen}",
        )
        for seen, rows in groups.items()
    ]
    return {"result": result, "groups": groups, "plots": drawn}


_STEP_CURVES = {
    "reward": "reward",
    "group_hits": "groups that hit",
    "flat_groups": "flat groups",
    "kl": "divergence",
    "entropy": "entropy",
}


def alignment(run: Path) -> Part:
    """Return each reward before and after alignment, and the other figures of its summary."""
    summary = read(run, "aligned/alignment.json")
    before, after = (summary.get(key, {}) for key in _REWARDS)
    others = spoken({name: value for name, value in summary.items() if name not in _REWARDS})
    steps = summary.get("steps", [])
    drawn = [name for name in _STEP_CURVES if steps and all(name in step for step in steps)]
    return {
        "rewards": [(name, before[name], after[name]) for name in before if name in after],
        "others": others,
        "plots": [plots.curve([step[name] for step in steps], _STEP_CURVES[name], each="step") for name in drawn],
    }


def spoken(summary: dict[str, Any]) -> dict[str, float]:
    """Return a summary's numbers under names with spaces."""
    return {name.replace("_", " "): value for name, value in summary.items() if isinstance(value, int | float)}


_PATH_CURVES = {
    "beam": "paths",
    "effort": "perplexity of the answer for which a history gets one path",
    "theta": "threshold, as a quantile of the divergences seen",
}
_PATH_FIGURES = {"ndcg@10": "NDCG@10 of what paths propose", "milliseconds": "milliseconds a user"}


def curves(run: Path) -> Part:
    """Return what more paths and stricter pruning give and cost, as `recsys bench curves` measured them."""
    found = read(run, "reports/curves.json", made_by="recsys bench curves --run")
    drawn = []
    for by, across in _PATH_CURVES.items():
        points = [point for point in map(Point.from_json, found["points"]) if point.by == by]
        for name, said in _PATH_FIGURES.items() if points else ():
            marks = [(f"{point.at:g}", point.figures[name]) for point in points]
            drawn.append(plots.marked(marks, said, across=across))
    return {"users": found["users"], "timed": found["timed"], "plots": drawn}


def tokenizer(run: Path) -> Part:
    """Return the tokenizer's quality; figures that an older run did not keep are measured from its codes."""
    quality = read(run, "tokenizer/quality.json")
    books = quality["codebooks"]
    catalogue = Catalogue.load(run / "catalog")
    mutual = quality.get("mutual_information")
    if mutual is None:
        matrix_MM = information(catalogue.codes_NM, catalogue.codes_NM, seed=0)
        pairs_X = matrix_MM[np.triu_indices(len(matrix_MM), 1)]
        mutual = {"mean": float(pairs_X.mean()), "max": float(pairs_X.max())} if len(pairs_X) else {"mean": 0, "max": 0}
    else:
        matrix_MM = np.array(mutual["matrix"])
    agreement = quality.get("category_agreement")
    if agreement is None:
        agreement = information(catalogue.codes_NM, catalogue.category_N[:, None], seed=0)[:, 0].tolist()
    size = min(catalogue.layout.codebook_size, quality["items"])
    return {
        "quality": quality,
        "mutual": mutual,
        "agreement": agreement,
        "size": catalogue.layout.codebook_size,
        "plots": [
            plots.bars([book["use"] for book in books], "share of codes in use", most=1.0),
            plots.bars([book["perplexity"] for book in books], "perplexity", most=float(size)),
            plots.bars(agreement, "agreement with categories", most=1.0),
        ],
        "heatmap": plots.heatmap(matrix_MM, "what codebooks say about each other"),
    }


def facet_sample(run: Path) -> Part:
    """Return, for each codebook, a few codes chosen by seed: their words, their coverage and titles of their items."""
    catalogue = Catalogue.load(run / "catalog")
    items = pq.read_table(require(run / "data" / "items.parquet", remedy=f"run `recsys train DATA --to {run}`"))
    fits = coverage(catalogue.codes_NM, items, catalogue.facets, catalogue.layout.codebook_size)
    titles = items["title" if "title" in items.column_names else "item_id"].to_pylist()
    rng = rng_for(0, "report", "facets")
    books = []
    for book, codes_N in enumerate(catalogue.codes_NM.T):
        named = [code for (owner, code) in sorted(catalogue.facets) if owner == book]
        rows = []
        for code in sorted(rng.choice(named, min(_FACETS_SHOWN, len(named)), replace=False)) if named else ():
            members = np.flatnonzero(codes_N == code)
            rows.append(
                {
                    "words": catalogue.facets[book, int(code)].split(SEPARATOR),
                    "coverage": fits.shares.get((book, int(code)), 0.0),
                    "items": len(members),
                    "titles": [str(titles[int(item)] or "") for item in members[:_TITLES_SHOWN]],
                }
            )
        books.append(rows)
    return {"at_least_half": fits.at_least_half, "codes": len(fits.shares), "books": books}


def costs(run: Path) -> Part:
    """Return the seconds of each stage, other timings that were kept, the bytes of each folder and the versions.

    The reports are left out of the bytes, so that a page written twice is the same.
    """
    records = read_records(run)
    if not records:
        raise ArtifactError(f"{run / 'manifest.json'} must name finished stages; run `recsys train DATA --to {run}`")
    stages = {name: record.seconds for name, record in records.items()}
    timings = {name: dict(record.timings) for name, record in records.items() if record.timings}
    folders = sorted(path for path in run.iterdir() if path.is_dir() and path.name[0] != "." and path.name != "reports")
    sizes = {
        folder.name: sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) for folder in folders
    }
    versions = next((dict(record.versions) for record in records.values() if record.versions), {})
    return {"stages": stages, "timings": timings, "sizes": sizes, "versions": versions}
