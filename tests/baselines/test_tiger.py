"""TIGER: ids that tell items apart, beams inside the trie against a slow reading, and what it must learn."""

import shutil
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.flow import STAGES
from pipelines.job import Job
from pipelines.recipe import load_recipe
from pipelines.stages.baselines import fit_baselines, load_baselines
from recsys.baselines.popularity import Popularity
from recsys.baselines.semantic_ids import semantic_ids
from recsys.baselines.tiger import TIGER, TIGERConfig
from recsys.baselines.tiger_network import TIGERNetwork
from recsys.baselines.trie import Trie
from recsys.contracts import History, empty_history, requests_for
from recsys.core.errors import ArtifactError
from recsys.core.seeds import derive_seed
from recsys.data.events import EventLog
from recsys.data.prepare import load_prepared
from recsys.data.splits import questions, training_log
from recsys.features.item_vectors import Features
from tests.support.promises import assert_promises

CYCLE = 24


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def history(*items):
    return History(items=np.array(items, np.int64), timestamps=np.arange(len(items)))


@cache
def cycle_log():
    rng = np.random.default_rng(0)
    sequences = [(rng.integers(CYCLE) + np.arange(rng.integers(4, 12))) % CYCLE for _ in range(150)]
    offsets = np.concatenate([[0], np.cumsum([len(s) for s in sequences])]).astype(np.int64)
    items = np.concatenate(sequences)
    return EventLog(offsets_U1=offsets, items_E=items, timestamps_E=np.arange(len(items)), num_items=CYCLE)


@cache
def vectors():
    drawn = np.random.default_rng(1).normal(size=(CYCLE, 6)).astype(np.float32)
    drawn[1::6] = drawn[::6]  # items 0 and 1, 6 and 7, ... have the same vector
    return drawn


def small(**changes):
    values = {
        "levels": 2,
        "codes": 5,
        "width": 32,
        "layers": 1,
        "heads": 2,
        "feed_width": 64,
        "max_length": 6,
        "epochs": 12,
        "batch_positions": 64,
        "learning_rate": 1e-2,
        "beams": 12,
        "device": "cpu",
    }
    return TIGERConfig(**values | changes)


@cache
def fitted():
    log = cycle_log()
    return TIGER.fit(training_log(log), vectors(), small(), seed=3, validation=questions(log, "validation"))


@cache
def untrained(**changes):
    """A network with large random weights, so that no two items score alike."""
    torch.manual_seed(0)
    config = small(**changes)
    ids = semantic_ids(vectors(), levels=config.levels, codes=config.codes, seed=2)
    network = TIGERNetwork(config, ids)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    return TIGER(network, ids, config)


def slow_scores(model, items):
    """Every item's summed log-probabilities, one item and one token at a time, by the pass that trains."""
    scores = []
    kept = items[-model.config.max_length :]
    with torch.inference_mode():
        for item, tokens in enumerate(model.ids_NL.tolist()):
            hidden = model.network(torch.tensor([[*kept, item]]))[0, -1]
            parts = [model.network.logits(hidden[level], level).log_softmax(-1)[t] for level, t in enumerate(tokens)]
            scores.append(float(torch.stack(parts).sum()))
    return np.array(scores, np.float32)


def test_semantic_ids_when_vectors_are_equal_then_the_last_token_counts_up():
    points = np.array([[0, 0], [9, 9], [0, 0], [0, 0], [9, 9], [4, 0]], np.float32)
    ids = semantic_ids(points, levels=2, codes=3, seed=0)
    assert ids[:, 2].tolist() == [0, 0, 1, 2, 1, 0]
    assert len(np.unique(ids, axis=0)) == len(points)
    assert len(np.unique(ids[[0, 2, 3], :2], axis=0)) == 1
    assert len(np.unique(ids[:, 0])) == 3


def test_semantic_ids_when_levels_are_added_then_they_describe_the_vector_better():
    points = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    left = []
    for levels in (1, 2, 3):
        prefix = semantic_ids(points, levels=levels, codes=8, seed=0)[:, :-1]
        group = np.unique(prefix, axis=0, return_inverse=True)[1].reshape(-1)
        means = np.stack([np.bincount(group, column) / np.bincount(group) for column in points.T], axis=1)
        left.append(float(((points - means[group]) ** 2).sum()))
    assert left[0] > left[1] > left[2]


def test_semantic_ids_when_the_seed_is_the_same_then_they_are_too():
    points = np.random.default_rng(0).normal(size=(80, 4)).astype(np.float32)
    first, second, third = (semantic_ids(points, levels=2, codes=8, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, third)


@given(st.sets(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=20), st.data())
def test_trie_when_walked_then_reaches_exactly_the_allowed_items(ids, data):
    ids = np.array(data.draw(st.permutations(sorted(ids))), np.int64)
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids))))
    trie = Trie(ids, torch.device("cpu"))
    alive = trie.alive(torch.from_numpy(allowed)[None])
    nodes = [((), 0)]
    for level in range(3):
        steps = [(prefix, trie.extend(level, torch.tensor([[node]]), alive[level])[0, 0]) for prefix, node in nodes]
        nodes = [((*prefix, code), int(node)) for prefix, row in steps for code, node in enumerate(row) if node >= 0]
        wanted = {tuple(one[: level + 1]) for one in ids[allowed].tolist()}
        assert sorted(prefix for prefix, _ in nodes) == sorted(wanted)
    for prefix, node in nodes:
        assert tuple(ids[trie.item_R[node]]) == prefix


def test_trie_when_two_ids_are_equal_then_refuses():
    with pytest.raises(ValueError, match="distinct"):
        Trie(np.array([[0, 1], [0, 1]]), torch.device("cpu"))


@pytest.mark.parametrize("items", [(), (4,), (1, 2, 3), tuple(range(9, 20))])
@pytest.mark.parametrize("layers", [1, 2])
def test_recommend_when_beams_are_as_many_as_items_then_equals_scoring_every_item(items, layers):
    model = untrained(layers=layers)
    queries = [history(*items), history(7, 7, 8)]  # a neighbour of another length, so that padding is met
    slate = model.recommend(requests_for(queries, n=CYCLE, keep_seen=True))[0]
    wanted = slow_scores(model, items)
    assert slate.items.tolist() == np.argsort(-wanted, kind="stable").tolist()
    assert slate.scores == pytest.approx(wanted[slate.items], abs=1e-3)


def test_recommend_when_beams_are_few_then_scores_are_still_the_items_own():
    model = untrained(beams=3)
    slate = model.recommend(requests_for([history(2, 3)], n=3))[0]
    assert len(slate.items) == 3
    assert slate.scores == pytest.approx(slow_scores(model, (2, 3))[slate.items], abs=1e-3)


@given(
    items=st.lists(st.lists(st.integers(0, CYCLE - 1), max_size=30), max_size=4),
    n=st.integers(1, CYCLE + 5),
    keep_seen=st.booleans(),
    ineligible=st.none() | st.sets(st.integers(0, CYCLE - 1)),
)
def test_recommend_when_asked_anything_then_keeps_the_protocol(items, n, keep_seen, ineligible):
    queries = [history(*one) for one in items]
    assert_promises(untrained(beams=3), queries, num_items=CYCLE, n=n, keep_seen=keep_seen, ineligible=ineligible)


def test_recommend_when_n_is_below_one_then_refuses():
    with pytest.raises(ValueError, match="n must be at least 1"):
        untrained().recommend(requests_for([history(1)], n=0))


def test_network_when_later_items_change_then_earlier_states_do_not():
    network = untrained().network
    with torch.inference_mode():
        one, two = network(torch.tensor([[1, 2, 3, 4, 5], [1, 2, 3, 9, 8]]))
        short = network(torch.tensor([[1, 2, 3]]))[0]
    assert torch.allclose(one[:3], two[:3], atol=1e-4)
    assert torch.allclose(one[:3], short, atol=1e-4)
    # the state that names a target's first token has not seen the target; the next ones have
    assert torch.allclose(one[3, 0], two[3, 0], atol=1e-4)
    assert not torch.allclose(one[3, 1:], two[3, 1:], atol=1e-2)
    assert not torch.allclose(one[4, 0], two[4, 0], atol=1e-2)


def test_tiger_when_the_world_is_a_cycle_then_learns_the_next_item_and_popularity_cannot():
    log = cycle_log()
    queries = questions(log, "test")

    def hit_rate(model):
        slates = model.recommend(requests_for(queries.histories, n=1))
        return np.mean([slate.items[0] == target for slate, target in zip(slates, queries.targets_U, strict=True)])

    assert hit_rate(fitted()) > 0.9
    assert hit_rate(Popularity.fit(training_log(log))) < 0.2


def test_tiger_when_fitted_twice_by_one_seed_then_slates_are_equal_and_ambient_randomness_untouched():
    log, config, queries = training_log(cycle_log()), small(epochs=1), [history(1, 2), empty_history()]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = TIGER.fit(log, vectors(), config, seed=5).recommend(requests_for(queries, n=9))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    second, third = (
        TIGER.fit(log, vectors(), config, seed=seed).recommend(requests_for(queries, n=9)) for seed in (5, 6)
    )
    for one, two, three in zip(first, second, third, strict=True):
        assert one.items.tolist() == two.items.tolist()
        assert one.scores.tolist() == two.scores.tolist()
        assert one.scores.tolist() != three.scores.tolist()


def test_tiger_when_validation_gets_worse_then_keeps_the_best_epoch(monkeypatch):
    seen = []

    def validate(model, *_, **__):
        seen.append(model.recommend(requests_for([history(1, 2)], n=5))[0].scores.tolist())
        return [0.1, 0.9, 0.3][len(seen) - 1]

    monkeypatch.setattr("recsys.baselines.tiger._validate", validate)
    log = cycle_log()
    config = small(epochs=3, validate_every=1)
    model = TIGER.fit(training_log(log), vectors(), config, validation=questions(log, "validation"))
    assert model.recommend(requests_for([history(1, 2)], n=5))[0].scores.tolist() == seen[1]
    assert seen[1] != seen[2]


def test_tiger_when_saved_and_loaded_then_answers_the_same(tmp_path):
    model, queries = fitted(), [history(1, 2), empty_history()]
    model.save(tmp_path / "tiger")
    loaded = TIGER.load(tmp_path / "tiger")
    assert (loaded.name, loaded.config) == ("tiger", model.config)
    for ours, theirs in zip(
        model.recommend(requests_for(queries, n=9)), loaded.recommend(requests_for(queries, n=9)), strict=True
    ):
        assert ours.items.tolist() == theirs.items.tolist()
        assert ours.scores.tolist() == theirs.scores.tolist()


def test_tiger_when_its_folder_is_absent_then_says_what_to_do(tmp_path):
    with pytest.raises(ArtifactError, match="fit and save"):
        TIGER.load(tmp_path / "nothing")


def test_tiger_when_vectors_or_log_do_not_fit_then_refuses():
    with pytest.raises(ValueError, match="one per item"):
        TIGER.fit(cycle_log(), vectors()[1:], small())
    alone = EventLog(
        offsets_U1=np.array([0, 1, 2]), items_E=np.array([0, 1]), timestamps_E=np.array([0, 1]), num_items=CYCLE
    )
    with pytest.raises(ValueError, match="two training events"):
        TIGER.fit(alone, vectors(), small())


def test_fit_baselines_when_a_recipe_names_rivals_then_those_are_fitted_timed_and_loaded(run, tmp_path):
    for folder in ("data", "features"):
        shutil.copytree(run / folder, tmp_path / folder)
    shape = ("width=16", "layers=1", "heads=2", "epochs=1", "codes=8")
    overrides = ('baselines.fitted=["popularity", "tiger"]', *(f"baselines.tiger.{one}" for one in shape))
    recipe = load_recipe("smoke", overrides)
    out = tmp_path / "baselines"
    stage = next(stage for stage in STAGES if stage.name == "baselines")
    job = Job(stage=stage, run=tmp_path, out=out, data_set=tmp_path, resolved=recipe, checkpoints=tmp_path)
    fit_baselines(job)
    assert [model.name for model in load_baselines(out)] == ["popularity", "tiger"]
    assert job.timings.keys() == {"popularity", "tiger"}
    log, text = load_prepared(tmp_path / "data").log, Features.load(tmp_path / "features").blocks["text"]
    wanted = semantic_ids(text, levels=3, codes=8, seed=derive_seed(recipe.seed, "tiger"))
    assert log.num_items == len(wanted)
    assert np.array_equal(TIGER.load(out / "tiger").ids_NL, wanted)


def test_config_when_heads_do_not_share_the_width_then_it_is_refused() -> None:
    with pytest.raises(ValueError, match="width must be a multiple of heads, got width 10 and 4 heads"):
        TIGERConfig(width=10, heads=4)
