"""The demo: everything on real data, then its results."""

import json
from pathlib import Path

import numpy as np

from pipelines.flow import train
from pipelines.recipe import load_recipe
from pipelines.recommend import item_titles
from pipelines.record import read_records
from pipelines.show import console, evaluation_table, slate_table, stage_table
from pipelines.sizing import sized_for
from recsys.contracts import requests_for
from recsys.core.errors import DataError
from recsys.data.fetch import fetch
from recsys.data.prepare import load_prepared
from recsys.recommender.bundle import load_bundle

SHOWN_USERS = 3
SHOWN_HISTORY = 5


def run_demo(to: Path, recipe_name: str, *, use_ray: bool) -> None:
    """Fetch MovieLens-100K (the synthetic world without a network), train, and print table, slates and paths."""
    out = console()
    data = to / "ml-100k"
    try:
        out.print(fetch("ml-100k", data))
    except DataError as error:
        out.print(f"[yellow]No MovieLens-100K: {error}[/yellow]\nGoing on with the built-in synthetic world instead.")
        data = to / "synthetic"
        out.print(fetch("synthetic", data))
    run = to / "run"
    result = train(data, run, sized_for(data, load_recipe(recipe_name), quick=False), use_ray=use_ray)
    out.print(stage_table(read_records(run)))
    show_users(run)
    out.print(evaluation_table(result))
    kept = json.loads((run / "bundle" / "manifest.json").read_text())
    for name in dict.fromkeys(row["model"] for row in kept["validation"]):
        best = max((row for row in kept["validation"] if row["model"] == name), key=lambda row: row["ndcg@10"])
        mark = "  <- in the bundle" if name == kept["kept"]["model"] else ""
        out.print(f"{name:12} validation recall@10 {best['recall@10']:.4f}  ndcg@10 {best['ndcg@10']:.4f}{mark}")
    out.print(f"\nServe it:  [bold]recsys serve {run}[/bold]  then open http://127.0.0.1:8080/")


def show_users(run: Path) -> None:
    """Print three users' recent history, their ten recommendations and the reasoning path of each in words."""
    out = console()
    bundle, log, titles = load_bundle(run / "bundle"), load_prepared(run / "data").log, item_titles(run)
    users = np.flatnonzero(log.lengths_U >= SHOWN_HISTORY)
    shown = users[np.linspace(0, len(users) - 1, SHOWN_USERS).astype(int)]
    histories = [log.history(int(user)) for user in shown]
    slates = bundle.recommender.recommend(requests_for(histories, n=10))
    for user, history, slate in zip(shown, histories, slates, strict=True):
        recent = ", ".join(titles[int(item)] for item in history.items[-SHOWN_HISTORY:])
        out.print(f"\n[bold]User {user}[/bold] lately: {recent}")
        out.print(slate_table(slate, bundle.catalogue, titles))
