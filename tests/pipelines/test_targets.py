"""The doors of the command line lose nothing of the user's: targets that are not ours to write are refused."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.flow import train
from pipelines.recipe import Recipe
from recsys.core.artifacts import hash_folder
from recsys.core.errors import ArtifactError, CallError, DataError
from recsys.data.fetch import fetch

LOG = pa.table({"user_id": [1, 1, 2], "item_id": [1, 2, 1], "timestamp": [1, 2, 3]})


def refused(*call: str) -> Exception:
    """Return the error that a call of the command line raises."""
    error = CliRunner().invoke(app, list(call)).exception
    assert isinstance(error, Exception)
    return error


def test_train_when_the_run_folder_contains_its_data_then_refuses_and_keeps_all(
    world: Path, recipe: Recipe, tmp_path: Path
) -> None:
    shutil.copytree(world, tmp_path / "data")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.bin").write_text("mine")
    before = hash_folder(tmp_path)
    for data, run in ((tmp_path / "data", tmp_path), (tmp_path / "data", tmp_path / "data")):
        with pytest.raises(CallError, match="must not contain its data"):
            train(data, run, recipe, use_ray=False)
    with pytest.raises(ArtifactError, match="no manifest of ours"):
        train(world, tmp_path, recipe, use_ray=False)
    assert hash_folder(tmp_path) == before


def test_train_when_fresh_is_asked_of_a_foreign_folder_then_refuses_and_keeps_all(world: Path, tmp_path: Path) -> None:
    (tmp_path / ".work").mkdir()
    (tmp_path / ".work" / "notes.txt").write_text("mine")
    assert isinstance(refused("train", str(world), "--to", str(tmp_path), "--fresh"), ArtifactError)
    assert (tmp_path / ".work" / "notes.txt").read_text() == "mine"


def test_import_when_the_target_is_the_source_then_refuses_and_keeps_it(tmp_path: Path) -> None:
    pq.write_table(LOG, tmp_path / "interactions.parquet")
    before = hash_folder(tmp_path)
    for source in (tmp_path, tmp_path / "interactions.parquet"):
        error = refused("import", "parquet", str(source), "--to", str(tmp_path))
        assert isinstance(error, DataError)
        assert "must not be the source" in str(error)
    assert hash_folder(tmp_path) == before


def test_import_when_the_target_has_a_data_file_of_another_program_then_refuses_and_keeps_it(
    world: Path, tmp_path: Path
) -> None:
    pq.write_table(LOG, tmp_path / "items.parquet")
    before = hash_folder(tmp_path)
    error = refused("import", "parquet", str(world), "--to", str(tmp_path))
    assert isinstance(error, DataError)
    assert "of another program" in str(error)
    assert hash_folder(tmp_path) == before


def test_import_when_the_target_is_an_earlier_import_then_replaces_it(world: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    for _ in range(2):
        assert runner.invoke(app, ["import", "parquet", str(world), "--to", str(tmp_path / "data")]).exit_code == 0


def test_fetch_when_the_target_has_a_note_of_another_program_then_refuses_and_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "source.txt").write_text("my notes")
    with pytest.raises(DataError, match="choose another folder"):
        fetch("synthetic", tmp_path)
    assert (tmp_path / "source.txt").read_text() == "my notes"


def test_recommend_when_the_result_would_replace_the_users_file_then_refuses_and_keeps_it(
    run: Path, tmp_path: Path
) -> None:
    users = tmp_path / "users.csv"
    users.write_text("user_id\n1\n")
    assert isinstance(refused("recommend", str(run), "--users", str(users), "--to", str(users)), CallError)
    assert users.read_text() == "user_id\n1\n"
