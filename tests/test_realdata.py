"""Known figures on the shared data sets: a check of loader, split and metric together."""

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys.baselines.popularity import Popularity
from recsys.data.events import build_log
from recsys.data.splits import questions, training_log
from recsys.evaluation.leave_one_out import evaluate_recommender

pytestmark = pytest.mark.realdata

SHARED = Path(os.environ.get("RECSYS_SHARED_DATA", Path(__file__).parents[1].parent / "shared" / "data"))


def load_log(name):
    path = SHARED / name / "interactions.parquet"
    if not path.exists():
        pytest.skip(f"{path} is absent; set RECSYS_SHARED_DATA to the folder of the shared data sets")
    table = pq.read_table(path, columns=["user_id", "item_id", "position", "timestamp"])
    user_id, item_id, position, timestamp = (column.to_numpy() for column in table.columns)
    users, user = np.unique(user_id, return_inverse=True)
    items, item = np.unique(item_id, return_inverse=True)
    return build_log(user, item, timestamp, position, num_users=len(users), num_items=len(items))


@pytest.mark.parametrize(
    ("name", "users", "items", "wanted"),
    [
        ("amazon14_beauty", 22_363, 12_101, [0.0068, 0.0039, 0.0110, 0.0053]),
        ("amazon14_toys", 19_412, 11_924, [0.0055, 0.0038, 0.0090, 0.0049]),
    ],
)
def test_popularity_when_judged_on_amazon_then_matches_the_known_figures(name, users, items, wanted):
    log = load_log(name)
    assert (log.num_users, log.num_items) == (users, items)
    model = Popularity.fit(training_log(log))
    row = evaluate_recommender(model, questions(log, "test"), num_items=items, keep_seen=False, seed=0).row
    assert [round(row.accuracy[key].value, 4) for key in ("recall@5", "ndcg@5", "recall@10", "ndcg@10")] == wanted
