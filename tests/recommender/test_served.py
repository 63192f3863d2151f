"""What serving loads ranks as torch's bundle does, grows by new items, and gives way to torch where it does not."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from recsys.contracts import requests_for
from recsys.core.errors import ArtifactError
from recsys.data.prepare import load_prepared
from recsys.data.splits import questions
from recsys.recommender.bundle import Bundle, load_bundle
from recsys.recommender.probes import load_probes
from recsys.recommender.served import TOLERANCE, ServedBundle, ServedExperts, differing_probes, load_served
from recsys.recommender.token_experts import NewItemChoice


@pytest.fixture(scope="module")
def served(run: Path) -> ServedBundle:
    bundle = load_served(run / "bundle")
    assert isinstance(bundle, ServedBundle)
    return bundle


def test_load_served_when_asked_as_torch_is_then_items_scores_and_paths_agree(run: Path, served: ServedBundle) -> None:
    torch_bundle = load_bundle(run / "bundle")
    histories = questions(load_prepared(run / "data").log, "validation").histories[:40]
    requests = requests_for(histories, n=10)
    for mine, theirs in (
        (served.ranker, torch_bundle.ranker),
        (served.recommender, torch_bundle.recommender),
    ):
        for slate, expected in zip(mine.recommend(requests), theirs.recommend(requests), strict=True):
            np.testing.assert_allclose(slate.scores, expected.scores, atol=TOLERANCE)
            assert slate.items.tolist() == expected.items.tolist()
    assert served.probe() == 1.0


def test_load_served_when_asked_for_paths_then_nearly_all_are_those_of_torch(run: Path, served: ServedBundle) -> None:
    histories = questions(load_prepared(run / "data").log, "validation").histories[:40]
    requests = [replace(request, whole_catalogue=False) for request in requests_for(histories, n=10)]
    mine, theirs = served.recommender.recommend(requests), load_bundle(run / "bundle").recommender.recommend(requests)
    pairs = [pair for one, two in zip(mine, theirs, strict=True) for pair in zip(one.paths, two.paths, strict=True)]
    # two codes of nearly equal probability may change places, and then the path of an item is another one
    assert len(pairs) == 400
    # what fills a slate up was reached by no path
    both = [(own[0], other[0]) for own, other in pairs if own and other]
    assert len(both) > 200
    same = [[step.code for step in own.steps] == [step.code for step in other.steps] for own, other in both]
    assert np.mean(same) > 0.95


def test_with_items_when_an_item_is_new_then_ranks_it_where_torch_does(run: Path, served: ServedBundle) -> None:
    new = pa.table({"item_id": [900_001], "title": ["something else"]})
    grown, torch_grown = served.with_items(new), load_bundle(run / "bundle").with_items(new)
    assert list(grown.catalogue.item_ids)[-1] == 900_001
    assert grown.tokens is not None
    assert grown.tokens.scorer.num_items == len(grown.catalogue.item_ids)
    (history,) = questions(load_prepared(run / "data").log, "validation").histories[:1]
    (request,) = requests_for([history], n=len(grown.catalogue.item_ids))
    mine, theirs = grown.ranker.recommend([request])[0], torch_grown.ranker.recommend([request])[0]
    np.testing.assert_allclose(mine.scores, theirs.scores, atol=TOLERANCE)
    assert len(served.catalogue.item_ids) + 1 == len(grown.catalogue.item_ids)


def test_with_items_when_one_expert_scores_new_items_then_theirs_are_its_log_probabilities_here_and_in_torch(
    run: Path, served: ServedBundle
) -> None:
    bundle, num_items = load_bundle(run / "bundle"), len(served.catalogue.item_ids)
    assert served.tokens is not None
    assert bundle.tokens is not None
    (expert, *_), chosen = served.tokens.scorer.experts, served.tokens.choices
    new_items = NewItemChoice(expert=expert, trained=num_items, without_events=(2,), bonus=0.25)
    choices = chosen.model_copy(update={"new_items": new_items})
    tokens = ServedExperts.of(list(served.tokens.scorer.experts.values()), served.tokens.catalogue, choices)
    new = pa.table({"item_id": [900_001], "title": ["something else"]})
    grown = replace(served, tokens=tokens).with_items(new)
    torch_grown = replace(bundle, tokens=replace(bundle.tokens, choices=choices)).with_items(new)
    (history,) = questions(load_prepared(run / "data").log, "validation").histories[:1]
    (request,) = requests_for([history], n=num_items + 1, keep_seen=True)
    request = replace(request, whole_catalogue=True)
    mine, theirs = grown.ranker.recommend([request])[0], torch_grown.ranker.recommend([request])[0]
    np.testing.assert_allclose(mine.scores, theirs.scores, atol=TOLERANCE)
    assert torch_grown.tokens is not None
    own_N = torch_grown.tokens.sources()[expert]([history])[0]
    found = dict(zip(theirs.items.tolist(), theirs.scores.tolist(), strict=True))
    for item in (2, num_items):  # an item without training events, and one that came later
        assert found[item] == pytest.approx(own_N[item] + 0.25, abs=1e-4)


@pytest.mark.parametrize("likeness", [0.0, 16.0])
def test_with_items_when_places_are_kept_then_new_and_later_items_have_them_here_and_in_torch(
    run: Path, served: ServedBundle, likeness: float
) -> None:
    bundle, num_items = load_bundle(run / "bundle"), len(served.catalogue.item_ids)
    assert served.tokens is not None
    assert bundle.tokens is not None
    (expert, *_), chosen = served.tokens.scorer.experts, served.tokens.choices
    new_items = NewItemChoice(expert=expert, trained=num_items, without_events=(2,), share=0.2, likeness=likeness)
    choices = chosen.model_copy(update={"new_items": new_items})
    tokens = ServedExperts.of(list(served.tokens.scorer.experts.values()), served.tokens.catalogue, choices)
    new = pa.table({"item_id": [900_001], "title": ["something else"]})
    grown = replace(served, tokens=tokens).with_items(new)
    torch_grown = replace(bundle, tokens=replace(bundle.tokens, choices=choices)).with_items(new)
    histories = questions(load_prepared(run / "data").log, "validation").histories[:8]
    for whole in (True, False):
        requests = [
            replace(request, whole_catalogue=whole) for request in requests_for(histories, n=10, keep_seen=True)
        ]
        mine, theirs = grown.ranker.recommend(requests), torch_grown.ranker.recommend(requests)
        for one, other in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(one.scores, other.scores, atol=TOLERANCE)
            # the 5th and the 10th place of ten
            assert one.items.tolist() == other.items.tolist()
            assert set(one.items[[4, 9]].tolist()) == {2, num_items}
            assert not {2, num_items} & set(np.delete(one.items, [4, 9]).tolist())
    alone = torch_grown.tokens.alone() if torch_grown.tokens is not None else []
    assert alone
    assert all(one.evidence.new_items is None for one in alone)


def test_forget_when_states_are_kept_then_none_is_left(served: ServedBundle) -> None:
    served.probe()
    assert served.tokens is not None
    groups = served.tokens.scorer._groups
    assert len(served.generative.scorer._kept) >= 16
    ranks = [name for name, weight in served.tokens.choices.rank_weights.items() if weight and name in groups]
    assert all(len(groups[name].kept) >= 16 for name in ranks)
    served.forget()
    assert len(served.generative.scorer._kept) == 0
    assert {len(group.kept) for group in groups.values()} <= {0}


def test_load_served_when_probes_expect_another_model_then_torch_ranks_and_the_log_says_so(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(run / "bundle", tmp_path / "bundle")
    path = tmp_path / "bundle" / "probes.json"
    probes = json.loads(path.read_text())
    probes[3]["scores"][0] += 2 * TOLERANCE
    path.write_text(json.dumps(probes))
    with caplog.at_level(logging.ERROR):
        bundle = load_served(tmp_path / "bundle", verify=False)
    assert isinstance(bundle, Bundle)
    assert "answers 1 probes" in caplog.text


LOAD_IN_A_THREAD = """
import sys, threading
from pathlib import Path
from threadpoolctl import threadpool_info
from recsys.recommender.served import load_served

def threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

import scipy.linalg
before = threads()
loading = threading.Thread(target=load_served, args=(Path(sys.argv[1]),))  # as a server does
loading.start()
loading.join()
print(before, threads())
"""


def test_load_served_when_a_process_has_two_threads_then_its_matrix_products_run_on_one(run: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOAD_IN_A_THREAD, str(run / "bundle")],
        env={**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "{2} {1}"


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    ("lacking", "said"), [("runtime", "no weights of the runtime"), ("experts", "no token experts of the runtime")]
)
def test_load_served_when_a_bundle_is_of_the_time_before_the_runtime_or_its_experts_then_torch_ranks_on_one_thread(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, lacking: str, said: str
) -> None:
    shutil.copytree(run / "bundle", tmp_path / "bundle", ignore=shutil.ignore_patterns(lacking))
    with caplog.at_level(logging.WARNING):
        assert isinstance(load_served(tmp_path / "bundle", verify=False), Bundle)
    assert said in caplog.text
    assert torch.get_num_threads() == 1


def test_load_served_when_a_file_was_changed_then_it_is_refused(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "bundle", tmp_path / "bundle")
    with (tmp_path / "bundle" / "runtime" / "weights.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    with pytest.raises(ArtifactError, match=r"runtime/weights.safetensors changed"):
        load_served(tmp_path / "bundle")


@pytest.mark.parametrize(("shift", "differing"), [(0.5 * TOLERANCE, 0), (3 * TOLERANCE, 1)])
def test_differing_probes_when_an_expected_item_is_missing_then_counts_where_it_was_not_near_the_edge(
    run: Path, served: ServedBundle, shift: float, differing: int
) -> None:
    probe = load_probes(run / "bundle")[0]
    other = next(item for item in served.catalogue.item_ids if item not in probe.expected)
    scores = (*probe.scores[:-2], probe.scores[-1] + shift, probe.scores[-1])
    # the item before the last is not found; what matters is how far above the last it was expected
    odd = type(probe)(history=probe.history, expected=(*probe.expected[:-2], other, probe.expected[-1]), scores=scores)
    slate = served.ranker.recommend(requests_for([served.vocabulary.history(probe.history).history], n=10))[0]

    class Still:
        name = "still"

        def recommend(self, _requests: object) -> list[object]:
            return [type(slate)(items=slate.items, scores=np.array(scores, np.float32))]

    assert differing_probes(Still(), served.vocabulary, [odd]) == differing
