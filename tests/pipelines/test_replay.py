"""Replaying with a run: leaks planted in its folder, another log, a served endpoint."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.flow import train
from pipelines.recipe import Recipe, load_recipe
from pipelines.remote import RemoteRecommender
from pipelines.replay import ReplayCall, replay_run, with_off_policy
from pipelines.show_replay import tables
from recsys.baselines.popularity import Popularity
from recsys.contracts import History, Request, Slate, requests_for
from recsys.core.errors import ArtifactError, CallError, DataError
from recsys.data.impressions import clean_impressions
from recsys.data.prepare import load_prepared
from recsys.data.table import build_dataset, read_dataset, write_dataset
from recsys.data.vocabulary import Vocabulary
from recsys.evaluation.replay import ReplayConfig
from recsys.evaluation.replay_log import joined_log, unanswerable
from recsys.evaluation.replay_results import Replay

CHEAP = ("popularity", "cooccurrence")
TIMED = ("data.split=time", "alignment.steps=0", "fit.epochs=1")


@pytest.fixture(scope="module")
def timed_recipe() -> Recipe:
    return load_recipe("smoke", TIMED)


@pytest.fixture(scope="module")
def timed_run(world: Path, timed_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("timed")
    train(world, folder, timed_recipe, use_ray=False)
    return folder


@pytest.fixture
def copy(timed_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(timed_run, tmp_path / "run")
    return tmp_path / "run"


def test_replay_when_the_cut_is_global_then_nothing_asked_was_known_and_the_report_says_so(
    timed_run: Path, timed_recipe: Recipe
) -> None:
    evaluation = json.loads((timed_run / "reports" / "evaluation.json").read_text())
    assert evaluation["protocol"].startswith("global time cut at ")
    result = replay_run(timed_run, timed_recipe)
    assert result.split == evaluation["protocol"]
    assert "Nothing was learned or chosen from events at or after the cut" in result.note
    assert {row.recommender for row in result.rows} >= {"recsys", *CHEAP}
    assert {row.recommender for row in result.paired} == {"recsys"}
    assert next(tables(result)).row_count == len(result.rows)


def test_replay_when_a_rival_was_fitted_on_the_future_then_fails(copy: Path, timed_recipe: Recipe) -> None:
    Popularity.fit(load_prepared(copy / "data").log).save(copy / "baselines" / "popularity")
    with pytest.raises(ArtifactError, match=r"baselines must be as its stage left it, got other files"):
        replay_run(copy, timed_recipe, ReplayCall(recommenders=CHEAP))


def test_replay_when_the_cut_was_moved_after_training_then_fails(copy: Path, timed_recipe: Recipe) -> None:
    report = json.loads((copy / "data" / "report.json").read_text())
    report["cuts"] = {name: moment - 30 * 86_400 for name, moment in report["cuts"].items()}
    (copy / "data" / "report.json").write_text(json.dumps(report))
    with pytest.raises(ArtifactError, match=r"data must be as its stage left it, got other files"):
        replay_run(copy, timed_recipe, ReplayCall(recommenders=CHEAP))


def test_replay_when_the_recipe_is_not_the_one_that_trained_then_fails(copy: Path) -> None:
    other = load_recipe("smoke", (*TIMED, "model.width=64"))
    with pytest.raises(ArtifactError, match="must be made from this run's data and recipe, got another's"):
        replay_run(copy, other, ReplayCall(recommenders=CHEAP))


def test_replay_when_another_log_is_given_then_its_events_are_asked_by_name(
    copy: Path, timed_recipe: Recipe, tmp_path: Path
) -> None:
    prepared = load_prepared(copy / "data")
    assert prepared.log.cuts is not None
    times = prepared.log.cuts.test + np.arange(40) * 1000
    items = [*prepared.items["item_id"].to_pylist()[:39], "never heard of"]
    users = [str(user) for user in prepared.user_ids[:20]] * 2
    rows = pa.table({"user_id": users, "item_id": [str(item) for item in items], "timestamp": times})
    write_dataset(build_dataset(rows, None, where="day"), tmp_path / "day")
    result = replay_run(copy, timed_recipe, ReplayCall(log=tmp_path / "day", recommenders=CHEAP))
    assert result.log == "day"
    assert (result.counts["asked"], result.counts["asked for unknown items"]) == (40, 1)
    assert result.events["unknown items"] == 1


def test_replay_when_a_log_without_times_has_propensities_then_estimates_and_says_what_is_missing(
    run: Path, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "run")
    at_zero = tmp_path / "run" / "data"
    prepared = load_prepared(at_zero)
    items = prepared.items["item_id"].to_pylist()
    rows = pa.table({"user_id": ["a", "b"], "item_id": items[:2], "timestamp": [0, 0]})
    shown = pa.table(
        {
            "request_id": np.arange(600),
            "user_id": [str(user) for user in np.arange(600)],
            "item_id": [items[row % 2] for row in range(600)],
            "position": np.ones(600, np.int64),
            "timestamp": np.zeros(600, np.int64),
            "reward": np.ones(600),
            "propensity": np.full(600, 0.5),
        }
    )
    dataset = build_dataset(rows, None, where="zero")
    write_dataset(replace(dataset, impressions=clean_impressions(shown, "zero")), tmp_path / "zero")
    # a run whose own log lies at time zero too: nothing can be replayed in time order
    timeless = replace(prepared, log=replace(prepared.log, timestamps_E=np.zeros_like(prepared.log.timestamps_E)))
    replayed = joined_log(timeless, read_dataset(tmp_path / "zero"))
    assert unanswerable(replayed).startswith("a log to replay must span at least two batches")
    first = Fixed(0)
    rows_found = with_off_policy(
        Replay(rows=(), note="because."), [first], replayed, timeless, impressions=shown, seed=0
    ).off_policy
    ips = next(row for row in rows_found if row.target == "fixed" and row.estimator == "ips")
    # half of the requests show item 0, each with weight 2 and reward 1
    assert (ips.estimate.value, ips.refusal, ips.effective_sample_size) == (1.0, "", 300.0)


class Fixed:
    """Shows one item to everybody."""

    name = "fixed"

    def __init__(self, item: int) -> None:
        self.item = item

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        return [Slate(items=np.array([self.item]), scores=np.ones(1, np.float32)) for _ in requests]


def test_replay_when_a_recommender_is_not_of_the_run_then_refused_with_the_names(
    timed_run: Path, timed_recipe: Recipe
) -> None:
    with pytest.raises(ArtifactError, match=r"recommenders must be among \['popularity'"):
        replay_run(timed_run, timed_recipe, ReplayCall(recommenders=("nobody",)))


def test_remote_when_asked_then_sends_the_history_with_times_and_reads_the_items() -> None:
    sent: list[dict[str, Any]] = []

    def post(url: str, body: dict[str, Any]) -> Any:
        sent.append({"url": url, **body})
        return {"items": [{"item_id": "c", "score": 0.9}, {"item_id": "a", "score": 0.1}], "degraded": None}

    remote = RemoteRecommender("http://here:1/", Vocabulary(["a", "b", "c"]), post=post)
    slates = remote.recommend(requests_for([History(items=np.array([1]), timestamps=np.array([5]))], n=2))
    assert sent == [
        {"url": "http://here:1/v1/recommend", "history": [{"item_id": "b", "timestamp": 5}], "n": 2},
    ]
    assert slates[0].items.tolist() == [2, 0]
    assert (len(remote.latencies_ms), remote.degraded) == (1, 0)


def test_replay_when_a_server_falls_back_then_its_answers_are_counted(
    copy: Path, timed_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = str(load_prepared(copy / "data").items["item_id"].to_pylist()[0])
    answer = {"items": [{"item_id": first, "score": 1.0}], "degraded": "model_loading"}
    monkeypatch.setattr("pipelines.remote._poster", lambda _: lambda *_: answer)
    config = ReplayConfig(max_events=30)
    result = replay_run(copy, timed_recipe, ReplayCall(url="http://there", recommenders=("popularity",), config=config))
    assert result.counts["answered by the server without its model"] == 30
    assert result.paired[0].recommender == "served: http://there"


def test_remote_when_the_server_has_another_catalogue_then_refused() -> None:
    remote = RemoteRecommender(
        "http://here", Vocabulary(["a"]), post=lambda *_: {"items": [{"item_id": "z", "score": 1}]}
    )
    with pytest.raises(DataError, match="must serve this run's catalogue"):
        remote.recommend(requests_for([History(items=np.array([0]), timestamps=np.array([5]))], n=1))
    with pytest.raises(CallError, match="must begin with http"):
        RemoteRecommender("ftp://here", Vocabulary(["a"]))
