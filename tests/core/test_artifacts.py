"""What a command may replace: files of its own, and nothing else."""

import json
from pathlib import Path

import pytest

from recsys.core.artifacts import Manifest, atomic_file, atomic_folder
from recsys.core.errors import ArtifactError


def write_folder(folder: Path, text: str, made: tuple[str, ...] = ()) -> None:
    with atomic_folder(folder, folder.parent / ".work", made=made) as out:
        (out / "a.txt").write_text(text)


def test_atomic_folder_when_it_holds_only_what_it_made_then_replaces_it(tmp_path: Path) -> None:
    write_folder(tmp_path / "model", "first")
    write_folder(tmp_path / "model", "second", made=("a.txt",))
    assert (tmp_path / "model" / "a.txt").read_text() == "second"
    assert [path.name for path in (tmp_path / ".work").iterdir()] == ["model.files.json"]


def test_atomic_folder_when_killed_before_the_manifest_knows_then_replaces_what_it_made(tmp_path: Path) -> None:
    write_folder(tmp_path / "model", "first")
    write_folder(tmp_path / "model", "second")
    assert (tmp_path / "model" / "a.txt").read_text() == "second"


def test_atomic_folder_when_a_file_is_somebody_elses_then_refuses_and_keeps_all(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.bin").write_text("mine")
    with pytest.raises(ArtifactError, match=r"weights\.bin"):
        write_folder(tmp_path / "model", "first")
    assert (tmp_path / "model" / "weights.bin").read_text() == "mine"


def test_atomic_folder_when_the_block_fails_then_the_old_content_stays(tmp_path: Path) -> None:
    write_folder(tmp_path / "model", "first")

    def fail() -> None:
        with atomic_folder(tmp_path / "model", tmp_path / ".work"):
            raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        fail()
    assert (tmp_path / "model" / "a.txt").read_text() == "first"


def test_atomic_file_when_others_have_names_like_its_own_then_leaves_them(tmp_path: Path) -> None:
    for name in ("out.tmp", ".out.parquet.tmp"):
        (tmp_path / name).write_text("precious")
    with atomic_file(tmp_path / "out.parquet") as temporary:
        temporary.write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "out.tmp": "precious",
        ".out.parquet.tmp": "precious",
        "out.parquet": "new",
    }


def test_claim_when_new_empty_or_a_run_then_is_one(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "new" / "run", tmp_path / "empty"):
        Manifest(folder).claim()
        Manifest(folder).claim()
        assert list(Manifest(folder).read()) == ["run"]


@pytest.mark.parametrize("manifest", [None, {}, ["icons"], {"name": "my web page"}, {"icons": {"src": "a.png"}}])
def test_claim_when_a_folder_has_files_and_no_manifest_of_ours_then_refuses(tmp_path: Path, manifest: object) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    with pytest.raises(ArtifactError, match="choose another folder"):
        Manifest(tmp_path).claim()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


def test_claim_when_the_run_is_a_file_then_refuses(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(ArtifactError, match="must be a folder"):
        Manifest(tmp_path / "run").claim()


def test_record_when_the_entry_is_equal_then_the_manifest_is_not_written_again(tmp_path: Path) -> None:
    entry = {"key": "a", "parents": ("data",)}  # JSON has lists, not tuples
    Manifest(tmp_path).record("model", entry)
    before = (tmp_path / "manifest.json").stat().st_mtime_ns, (tmp_path / "manifest.json").stat().st_ino
    Manifest(tmp_path).record("model", entry)
    assert ((tmp_path / "manifest.json").stat().st_mtime_ns, (tmp_path / "manifest.json").stat().st_ino) == before
    Manifest(tmp_path).record("model", {"key": "b", "seconds": 1.5})
    assert Manifest(tmp_path).read()["model"]["key"] == "b"
