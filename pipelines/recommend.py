"""Recommending from a run: for one history in this process, for many users on Ray."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from pipelines.ray_session import ray_session
from pipelines.show import console, slate_json, slate_table
from pipelines.stages.evaluate import token_recommenders
from recsys.codes.catalogue import Catalogue
from recsys.contracts import Recommender, Request, empty_history, requests_for
from recsys.core.errors import CallError, DataError
from recsys.core.telemetry import LOG
from recsys.data.prepare import load_prepared
from recsys.data.table import write_parquet
from recsys.data.vocabulary import UNKNOWN, some_ids
from recsys.recommender.bundle import Bundle, load_bundle
from recsys.recommender.token_ranker import PATHS_PROPOSE

BATCH_USERS = 256


def recommend_one(
    run: Path, text: str, *, n: int, explain: bool, moment: int | None = None, by: str = "head"
) -> dict[str, Any]:
    """Print and return recommendations for a history like ``id,id@1700000000``.

    Args:
        run: the run folder.
        text: ids separated by commas, oldest first, each with its unix seconds behind an ``@`` where they are known.
        n: the wanted length of the slate.
        explain: whether the result says the paths.
        moment: the unix second at which events without a time count; None is now.
        by: ``head`` ranks as the service does; ``paths`` ranks what token paths reach, and explains by those paths.

    Raises:
        CallError: the history names items and none of them is in the catalogue.
    """
    bundle = load_bundle(run / "bundle")
    given = bundle.vocabulary.history(bundle.vocabulary.parse_history(text), moment=moment)
    if given.unknown and not len(given.history.items):
        raise CallError(
            f"--history must name items of the catalogue, got none but unknown ones: {some_ids(given.unknown)}; "
            f"see data/items.parquet of the run"
        )
    if given.unknown:
        LOG.warning("--history: left out, for they are not in the catalogue: %s", some_ids(given.unknown))
    recommender, catalogue = _ranking(run, bundle, by)
    slate = recommender.recommend([Request(history=given.history, n=n)])[0]
    console().print(slate_table(slate, catalogue, item_titles(run)))
    items = slate_json(slate, catalogue, explain=explain)
    return {"model_version": bundle.model_version, "items": items, "unknown_items": list(given.unknown)}


def _ranking(run: Path, bundle: Bundle, by: str) -> tuple[Recommender, Catalogue]:
    """Return who ranks, and the catalogue whose words say the paths.

    Raises:
        CallError: there is no such ranking, or the run has no token models.
    """
    if by == "head":
        return bundle.recommender, bundle.catalogue
    if by != "paths":
        raise CallError(f"--by must be head or paths, got {by!r}")
    rankings = token_recommenders(run / "tokens", run / "calibrated", trace=True)
    found = [one for one in rankings if one.name == PATHS_PROPOSE]
    if not found:
        raise CallError(f"--by paths needs a run with token models, got {run} without; train it with experts.trained")
    return found[0], Catalogue.load(run / "tokens" / "catalog")


def item_titles(run: Path) -> list[str]:
    """Return the titles of a run's items in catalogue order, their ids where there are none."""
    items = pq.read_table(run / "bundle" / "items.parquet")
    column = "title" if "title" in items.column_names else "item_id"
    ids = items["item_id"].to_pylist()
    return [str(title or item) for title, item in zip(items[column].to_pylist(), ids, strict=True)]


class BatchRecommender:
    """A Ray Data worker: loads the bundle once, then turns batches of users into rows of recommendations."""

    def __init__(self, run: Path, n: int) -> None:
        import torch

        torch.set_num_threads(1)
        self.bundle = load_bundle(run / "bundle", trace=False)
        prepared = load_prepared(run / "data")
        self.log, self.users, self.n = prepared.log, prepared.users, n

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Recommend for a batch with a ``user_id`` column; unknown users get an empty history's answer."""
        users = [str(user) for user in batch["user_id"]]
        rows = self.users.find(users).rows_V.tolist()
        histories = [empty_history() if row == UNKNOWN else self.log.history(row) for row in rows]
        slates = self.bundle.recommender.recommend(requests_for(histories, n=self.n))
        lengths = [len(slate.items) for slate in slates]
        ids = self.bundle.catalogue.item_ids
        return {
            "user_id": np.repeat(np.array(users), lengths),
            "rank": np.concatenate([np.arange(1, length + 1) for length in lengths]),
            "item_id": np.array([ids[int(item)] for slate in slates for item in slate.items]),
            "score": np.concatenate([slate.scores for slate in slates]),
        }


def recommend_batch(run: Path, users: Path, to: Path, *, n: int) -> str:
    """Recommend for every user of a file on Ray Data and write one Parquet file; returns a sentence about it."""
    if to.exists() and to.samefile(users):
        raise CallError(f"--to must not be the users file, got {to} for both; choose another name")
    table = read_users(users)
    with ray_session() as session:
        rows = (
            session.data.from_arrow(table)
            .repartition(max(1, table.num_rows // (4 * BATCH_USERS)))
            .map_batches(
                BatchRecommender,
                fn_constructor_args=(run.resolve(), n),
                batch_size=BATCH_USERS,
                compute=session.data.ActorPoolStrategy(min_size=1, max_size=2),
            )
        )
        parts = [session.result(ref) for ref in rows.to_arrow_refs()]
        tables = [pa.table(part) if isinstance(part, dict) else part for part in parts]
        result = pa.concat_tables(part for part in tables if part.num_rows)
    result = result.sort_by([("user_id", "ascending"), ("rank", "ascending")])
    write_parquet(result, to)
    return f"{result.num_rows:,} recommendations for {table.num_rows:,} users written to {to}"


def read_users(path: Path) -> pa.Table:
    """Read the ``user_id`` column of a Parquet or CSV file."""
    try:
        table = pq.read_table(path) if path.suffix == ".parquet" else pyarrow.csv.read_csv(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"users must be a Parquet or CSV file, got {path}: {error}") from error
    if "user_id" not in table.column_names:
        raise DataError(f"{path} must have a column user_id, got {table.column_names}; rename the column")
    return table.select(["user_id"])
