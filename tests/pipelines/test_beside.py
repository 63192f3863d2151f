"""Runs side by side: what changed in slates, figures, data, settings and stages, and what a release cannot say."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.report import beside, differences
from pipelines.report.differences import ChangedSetting, ChangedSize
from recsys.core.errors import ArtifactError, CallError
from recsys.data.prepare import load_prepared
from tests.pipelines.test_report import read
from tests.support.worse_run import worse_copy


@pytest.fixture(scope="module")
def worse(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with the item ids of its bundle shuffled, a recipe with one other setting, and an evaluation by half."""
    copy = worse_copy(run, tmp_path_factory.mktemp("beside") / "worse")
    recipe = (copy / "recipe.toml").read_text()
    assert "\nmargin = 0.02\n" in recipe
    (copy / "recipe.toml").write_text(recipe.replace("\nmargin = 0.02\n", "\nmargin = 0.5\n"))
    evaluation = json.loads((copy / "reports" / "evaluation.json").read_text())
    evaluation["users"] = 7
    (copy / "reports" / "evaluation.json").write_text(json.dumps(evaluation))
    return copy


def test_settings_when_one_differs_then_only_that_is_named_with_both_values(run: Path, worse: Path) -> None:
    margin = ChangedSetting(key="gate.margin", before="0.02", after="0.5")
    assert differences.changed_settings(run, worse) == [margin]
    assert differences.changed_settings(run, run) == []


def test_stages_when_one_left_other_files_then_it_alone_is_named(run: Path, worse: Path) -> None:
    stages = differences.changed_stages(run, worse)
    assert [stage.name for stage in stages if stage.files == "other files"] == ["bundle"]
    assert all(stage.seconds_before == stage.seconds_after for stage in stages)


def test_slates_when_ids_were_shuffled_then_hardly_an_item_stays_for_any_kind_of_user(run: Path, worse: Path) -> None:
    found = differences.changed_slates(run, worse)
    assert found.overlap < 0.5
    assert sum(one.users for one in found.kinds if one.kind.endswith("events")) == found.users
    assert all(one.kind != "new since then" for one in found.kinds)  # both have the same users
    assert differences.changed_slates(run, run).overlap == 1.0


def test_data_when_both_are_one_log_then_nobody_is_new_or_gone(run: Path, worse: Path) -> None:
    found = differences.changed_data(run, worse)
    prepared = load_prepared(run / "data")
    users = prepared.log.num_users
    assert found.sizes[0] == ChangedSize(what="users", before=users, after=users)
    assert list(found.come_and_gone.values()) == [0, 0, 0, 0]


def test_page_when_two_runs_are_named_then_it_is_whole_and_says_that_questions_differ(run: Path, worse: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(run), str(worse)])
    assert result.exit_code == 0
    assert result.stdout.strip() == str(worse / "reports" / "beside.html")
    page = (worse / "reports" / "beside.html").read_text()
    reader = read(page)
    assert (reader.open, reader.wrong, set(reader.loads)) == ([], [], {"data:,"})
    assert "<td>gate.margin</td><td>0.02</td><td>0.5</td>" in page
    assert "Not asked alike" in page  # one evaluation was of 7 users
    assert 'class="lacks"' not in page


def test_page_when_the_first_is_a_release_then_slates_are_compared_and_the_rest_says_what_it_lacks(
    run: Path, worse: Path, tmp_path: Path
) -> None:
    release = tmp_path / "release"
    shutil.copytree(run / "bundle", release)
    page = beside.write_comparison([release, worse]).read_text()
    assert "of the first ten items stay" in page
    assert page.count('class="lacks"') == 4  # figures, data, settings, stages
    assert "a release has no recipe; name its run to compare settings" in page


def test_comparison_when_a_folder_is_no_run_then_the_error_names_the_remedy(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CallError, match="must have at least two runs, got 1"):
        beside.write_comparison([run])
    with pytest.raises(ArtifactError, match="name a trained run or a published release"):
        beside.write_comparison([tmp_path, run])
    with pytest.raises(ArtifactError, match="recsys train"):
        beside.write_comparison([run, tmp_path])
