"""The rivals: hand worlds, what SASRec must learn, and what every Recommender must keep."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.baselines.cooccurrence import Cooccurrence, CooccurrenceConfig
from recsys.baselines.popularity import Popularity
from recsys.baselines.sasrec import SASRec, SASRecConfig
from recsys.baselines.slates import slates_from_scores
from recsys.contracts import History, Request, empty_history, requests_for
from recsys.core.errors import ArtifactError
from recsys.data.events import EventLog
from recsys.data.splits import questions, training_log
from recsys.sequence.id_training import next_item_loss
from recsys.sequence.id_transformer import IdTransformer, score_histories
from recsys.sequence.training import batches
from recsys.sequence.windows import pad
from tests.support.promises import assert_promises

CYCLE = 20
NAMES = ("popularity", "cooccurrence", "sasrec")
KINDS = {"popularity": Popularity, "cooccurrence": Cooccurrence, "sasrec": SASRec}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def log_of(sequences, num_items):
    offsets = np.concatenate([[0], np.cumsum([len(s) for s in sequences])]).astype(np.int64)
    items = np.concatenate([np.asarray(s, np.int64) for s in sequences])
    return EventLog(offsets_U1=offsets, items_E=items, timestamps_E=np.arange(len(items)), num_items=num_items)


def history(*items):
    return History(items=np.array(items, np.int64), timestamps=np.arange(len(items)))


@cache
def cycle_log():
    rng = np.random.default_rng(0)
    return log_of([(rng.integers(CYCLE) + np.arange(rng.integers(4, 16))) % CYCLE for _ in range(150)], CYCLE)


def small(**changes):
    values = {"width": 32, "epochs": 12, "batch_positions": 128, "learning_rate": 5e-3, "dropout": 0.1, "device": "cpu"}
    return SASRecConfig(**values | changes)


@cache
def fitted(name):
    if name == "sasrec":
        log = cycle_log()
        return SASRec.fit(training_log(log), small(), seed=3, validation=questions(log, "validation"))
    return KINDS[name].fit(training_log(cycle_log()))


def test_popularity_when_counts_are_known_then_ranks_by_them():
    model = Popularity.fit(log_of([[0, 1, 2], [2, 1], [2]], 4))  # counts 1, 2, 3, 0
    (slate,) = model.recommend(requests_for([empty_history()], n=4))
    assert slate.items.tolist() == [2, 1, 0, 3]
    assert slate.scores.tolist() == [3, 2, 1, 0]
    assert model.recommend(requests_for([history(2)], n=1))[0].items.tolist() == [1]
    assert model.recommend(requests_for([history(2)], n=1, keep_seen=True))[0].items.tolist() == [2]


def test_cooccurrence_when_pairs_are_known_then_similarity_is_the_cosine_of_counts():
    model = Cooccurrence.fit(log_of([[0, 1], [0, 1], [0, 2], [3]], 4))
    # counts 3, 2, 1, 1; pairs 0-1 twice and 0-2 once: 2/sqrt(3*2) and 1/sqrt(3*1)
    wanted = np.zeros((4, 4))
    wanted[0, 1] = wanted[1, 0] = 2 / np.sqrt(6)
    wanted[0, 2] = wanted[2, 0] = 1 / np.sqrt(3)
    assert model.similarity_NN.toarray() == pytest.approx(wanted)
    (slate,) = model.recommend(requests_for([history(0)], n=4))
    assert slate.items.tolist() == [1, 2, 3]


def test_cooccurrence_when_items_are_further_apart_than_the_window_then_they_do_not_pair():
    model = Cooccurrence.fit(log_of([[0, 1, 2]], 3), CooccurrenceConfig(window=1))
    assert model.similarity_NN.toarray()[0, 2] == 0
    assert model.similarity_NN.toarray()[0, 1] > 0


def test_cooccurrence_when_history_is_long_then_newer_items_vote_more():
    model = Cooccurrence.fit(log_of([[0, 1], [2, 3]], 4))  # 0-1 and 2-3 both have cosine 1
    assert model.recommend(requests_for([history(0, 2)], n=2))[0].items.tolist() == [3, 1]
    assert model.recommend(requests_for([history(0, 2)], n=2))[0].scores == pytest.approx([1, 0.7], abs=0.01)
    assert model.recommend(requests_for([history(2, 0)], n=2))[0].items.tolist() == [1, 3]


def test_cooccurrence_when_an_item_is_popular_but_never_met_then_stays_below_any_that_was():
    model = Cooccurrence.fit(log_of([[0, 1], [2], [2], [2], [2]], 3))
    assert model.recommend(requests_for([history(0, 0, 0, 0, 0)], n=2))[0].items.tolist() == [1, 2]
    assert model.recommend(requests_for([empty_history()], n=1))[0].items.tolist() == [2]


def test_sasrec_when_the_world_is_a_cycle_then_learns_the_next_item():
    model = fitted("sasrec")
    queries = questions(cycle_log(), "test")
    slates = model.recommend(requests_for(queries.histories, n=1, keep_seen=True))
    hits = [slate.items[0] == target for slate, target in zip(slates, queries.targets_U, strict=True)]
    assert np.mean(hits) > 0.9


def test_sasrec_when_fitted_twice_by_one_seed_then_weights_are_equal_and_ambient_randomness_untouched():
    config, log = small(epochs=1), training_log(cycle_log())
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = SASRec.fit(log, config, seed=5)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    second, third = SASRec.fit(log, config, seed=5), SASRec.fit(log, config, seed=6)
    queries = [history(1, 2)]
    assert np.array_equal(first.scores(queries), second.scores(queries))
    assert not np.array_equal(first.scores(queries), third.scores(queries))


def test_sasrec_when_later_items_change_then_earlier_states_do_not():
    network = fitted("sasrec").network
    with torch.inference_mode():
        one, two = network(torch.tensor([[1, 2, 3, 4], [1, 2, 9, 9]]))
    assert torch.allclose(one[:2], two[:2], atol=1e-6)
    assert not torch.allclose(one[2], two[2], atol=1e-3)


def test_sasrec_when_histories_are_batched_then_scores_are_those_of_each_alone():
    model = fitted("sasrec")
    queries = [history(3), history(1, 2, 3, 4), empty_history(), history(*np.arange(70) % CYCLE)]
    alone = np.concatenate([model.scores([one]) for one in queries])
    assert model.scores(queries) == pytest.approx(alone, abs=1e-4)
    assert alone[2].tolist() == model.counts_N.tolist()


def test_sasrec_when_logits_are_dot_products_then_trains_too():
    model = SASRec.fit(training_log(cycle_log()), small(epochs=1, logits="dot"), seed=1)
    assert np.isfinite(model.scores([history(1)])).all()


def test_sasrec_loss_when_negatives_are_drawn_then_each_position_meets_them_and_its_own_target():
    network = IdTransformer(small(), CYCLE).eval()
    runs = [np.array([1, 2, 3, 4]), np.array([5, 6])]
    loss = next_item_loss(network, *pad(runs), np.random.default_rng(4), 5)
    drawn = set(np.random.default_rng(4).choice(CYCLE, 5, replace=False).tolist())
    values = []
    for run in runs:
        hidden = network(torch.from_numpy(run[None, :-1]))[0]
        for state, target in zip(hidden, run[1:].tolist(), strict=True):
            queries = torch.tensor([target, *sorted(drawn - {target})])
            values.append(-torch.log_softmax(network.logits(state[None], queries)[0], dim=0)[0])
    assert loss.item() == pytest.approx(torch.stack(values).mean().item(), rel=1e-5)


def test_sasrec_when_negatives_are_drawn_then_still_learns_the_cycle():
    model = SASRec.fit(training_log(cycle_log()), small(negatives=6), seed=3)
    queries = questions(cycle_log(), "test")
    slates = model.recommend(requests_for(queries.histories, n=1, keep_seen=True))
    assert np.mean([s.items[0] == t for s, t in zip(slates, queries.targets_U, strict=True)]) > 0.9


def test_sasrec_when_validation_gets_worse_then_keeps_the_best_epoch(monkeypatch):
    seen = []

    def validate(network, config, *_):
        seen.append(score_histories(network.eval(), config, [history(1, 2)]))
        return [0.1, 0.9, 0.3][len(seen) - 1]

    monkeypatch.setattr("recsys.sequence.id_training._validate", validate)
    log = cycle_log()
    config = small(epochs=3, validate_every=1)
    model = SASRec.fit(training_log(log), config, seed=1, validation=questions(log, "validation"))
    assert np.array_equal(model.scores([history(1, 2)]), seen[1])


def test_sasrec_when_no_user_has_two_events_then_refuses():
    with pytest.raises(ValueError, match="two training events"):
        SASRec.fit(log_of([[0], [1]], 2), small())


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(50, 300), st.integers(0, 9))
def test_batches_when_lengths_are_mixed_then_each_sequence_comes_once_inside_the_budget(lengths, positions, seed):
    groups = batches(np.array(lengths), positions, np.random.default_rng(seed))
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths)))
    assert all(len(group) * max(lengths[b] for b in group) <= positions for group in groups)


@pytest.mark.parametrize("name", NAMES)
def test_baseline_when_saved_and_loaded_then_answers_the_same(name, tmp_path):
    model = fitted(name)
    model.save(tmp_path / name)
    loaded = KINDS[name].load(tmp_path / name)
    queries = [history(1, 2), empty_history()]
    assert loaded.name == name
    assert getattr(loaded, "config", None) == getattr(model, "config", None)  # popularity has no settings
    for ours, theirs in zip(
        model.recommend(requests_for(queries, n=9)), loaded.recommend(requests_for(queries, n=9)), strict=True
    ):
        assert ours.items.tolist() == theirs.items.tolist()
        assert ours.scores.tolist() == theirs.scores.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_baseline_when_its_folder_is_absent_then_says_what_to_do(name, tmp_path):
    with pytest.raises(ArtifactError, match="fit and save"):
        KINDS[name].load(tmp_path / "nothing")


@pytest.mark.parametrize("name", NAMES)
@given(
    items=st.lists(st.lists(st.integers(0, CYCLE - 1), max_size=60), max_size=4),
    n=st.integers(1, CYCLE + 5),
    keep_seen=st.booleans(),
    ineligible=st.none() | st.sets(st.integers(0, CYCLE - 1)),
)
def test_baseline_when_asked_anything_then_keeps_the_protocol(name, items, n, keep_seen, ineligible):
    queries = [history(*one) for one in items]
    assert_promises(fitted(name), queries, num_items=CYCLE, n=n, keep_seen=keep_seen, ineligible=ineligible)


def test_slates_when_scores_are_minus_infinity_then_those_items_never_appear():
    scores = np.array([[1, -np.inf, 3]], np.float32)
    (slate,) = slates_from_scores(scores, [Request(history=empty_history(), n=3, keep_seen=True)], name="x")
    assert slate.items.tolist() == [2, 0]
    slates_from_scores(scores, [Request(history=history(2), n=3)], name="x")
    assert scores[0, 2] == 3  # the caller's matrix is left as it is


def test_slates_when_scores_are_equal_then_the_first_items_are_taken_whatever_else_is_asked_for():
    scores = np.zeros((2, 1000), np.float32)
    scores[:, :3], scores[:, 500] = -1, 1
    short, long = (Request(history=empty_history(), n=n) for n in (3, 20))
    (alone,) = slates_from_scores(scores[:1], [short], name="x")
    beside, longer = slates_from_scores(scores, [short, long], name="x")
    assert alone.items.tolist() == beside.items.tolist() == [500, 3, 4]
    assert longer.items.tolist() == [500, *range(3, 22)]
