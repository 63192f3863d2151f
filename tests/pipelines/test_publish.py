"""The gate and the pointer: a worse release is refused by name of slice, a better one serves, rollback goes back."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines.publish import gate_verdict, publish_run, roll_back
from pipelines.recipe import Recipe, apply_overrides
from pipelines.releases import ReleaseFolder, ReleaseRecommender
from recsys.contracts import History, requests_for
from recsys.core.errors import ArtifactError
from recsys.data.prepare import load_prepared
from recsys.data.vocabulary import Vocabulary
from recsys.recommender.bundle import load_bundle
from recsys.recommender.manifest import read_manifest
from tests.support.worse_run import worse_copy


@pytest.fixture
def served(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "served")
    return tmp_path / "served"


@pytest.fixture
def worse(run: Path, tmp_path: Path) -> Path:
    return worse_copy(run, tmp_path / "worse")


def version_of(run: Path) -> str:
    return read_manifest(run / "bundle").model_version


def test_publish_when_there_is_no_release_then_the_first_serves_and_says_that_nothing_was_compared(
    served: Path, recipe: Recipe
) -> None:
    done = publish_run(served, recipe)
    assert (done.verdict, done.move.replaced) == (None, None)
    assert "there was none to compare it with" in done.words
    current = ReleaseFolder(served).current()
    assert current is not None
    assert current.version == version_of(served)
    assert load_bundle(ReleaseFolder(served).bundle(current.version)).model_version == current.version


def test_publish_when_the_candidate_is_worse_then_refused_with_slice_and_size_and_the_pointer_stays(
    served: Path, worse: Path, recipe: Recipe
) -> None:
    publish_run(served, recipe)
    pointer = (served / "releases" / "current.json").read_bytes()
    with pytest.raises(
        ArtifactError, match=r"must pass the gate .* ndcg@10 on 'all' \(\d+ events\) went from"
    ) as error:
        publish_run(worse, recipe, into=served)
    assert "a difference of -" in str(error.value)
    assert (served / "releases" / "current.json").read_bytes() == pointer
    assert not (served / "releases" / version_of(worse)).exists()
    verdict = json.loads((worse / "reports" / "gate.json").read_text())
    assert verdict["passed"] is False
    assert 0 <= verdict["changes"]["overlap"] < 0.5  # ids were shuffled: hardly an item stays
    assert len(verdict["changes"]["examples"]) == 5
    assert {check["slice"] for check in verdict["checks"] if not check["passed"]} >= {"all"}


def test_publish_when_the_candidate_is_better_then_it_serves_and_rollback_goes_back_and_history_is_kept(
    served: Path, worse: Path, recipe: Recipe
) -> None:
    publish_run(worse, recipe, into=served)
    done = publish_run(served, recipe)
    assert done.verdict is not None
    assert done.verdict.passed
    releases = ReleaseFolder(served)
    assert roll_back(served).version == version_of(worse)
    assert [(move.kind, move.version) for move in releases.history()] == [
        ("publish", version_of(worse)),
        ("publish", version_of(served)),
        ("rollback", version_of(worse)),
    ]
    with pytest.raises(ArtifactError, match=r"must hold an earlier release to go back to, got \w+ as the first"):
        roll_back(served)


def test_publish_when_the_same_release_serves_already_then_refused(served: Path, recipe: Recipe) -> None:
    publish_run(served, recipe)
    with pytest.raises(ArtifactError, match="must hold another release than the current one"):
        publish_run(served, recipe)


def test_publish_when_a_bundle_is_broken_then_it_never_becomes_a_release(served: Path, recipe: Recipe) -> None:
    (served / "bundle" / "decoder.json").write_text("{}")
    with pytest.raises(ArtifactError):
        publish_run(served, recipe)
    assert ReleaseFolder(served).current() is None


def test_gate_when_both_are_one_model_then_no_difference_is_found_in_any_slice(served: Path, recipe: Recipe) -> None:
    strict = apply_overrides(recipe, ("gate.margin=0.0", "gate.sure=true"))
    verdict = gate_verdict(served, strict, served / "bundle")
    assert {(check.difference, check.low, check.high) for check in verdict.checks} == {(0.0, 0.0, 0.0)}
    assert verdict.passed


def test_release_when_asked_in_another_catalogue_then_ids_are_matched_and_strangers_left_out(run: Path) -> None:
    bundle, prepared = load_bundle(run / "bundle"), load_prepared(run / "data")
    ids = [str(one) for one in bundle.catalogue.item_ids]
    other = Vocabulary(["brand new", *reversed(ids[5:])])  # other order, one unknown item, five items missing
    release = ReleaseRecommender(bundle, other, name="r")
    history = prepared.log.history(0)
    rows = other.find(ids[item] for item in history.items.tolist()).rows_V
    seen = History(items=np.append(rows[rows >= 0], 0), timestamps=np.arange((rows >= 0).sum() + 1))
    slate = release.recommend(requests_for([seen], n=8))[0]
    assert len(set(slate.items.tolist())) == 8
    assert (slate.items > 0).all()
    own = History(items=history.items[rows >= 0], timestamps=np.arange((rows >= 0).sum()))
    eligible = np.array([name in other.ids for name in ids])
    wanted = bundle.ranker.recommend(requests_for([own], n=8, eligible_N=eligible))[0]
    assert [other.ids[item] for item in slate.items.tolist()] == [ids[item] for item in wanted.items.tolist()]
