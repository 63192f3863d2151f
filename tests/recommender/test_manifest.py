"""A bundle's manifest: its version stands for its files, and what does not fit is named."""

import json
from pathlib import Path

import pytest

from recsys.core.artifacts import hash_file
from recsys.core.errors import ArtifactError
from recsys.recommender.manifest import FILE, read_manifest, verify_bundle, write_manifest

KEPT = {"model": "aligned", "path_weight": 0.1, "theta": None, "ndcg@10": 0.05}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "weights").write_bytes(b"123")
    (folder / "decoder.json").write_text("{}")
    write_manifest(folder, kept=KEPT, validation=[KEPT, {**KEPT, "model": "pre-trained"}])
    return folder


def test_read_manifest_when_written_then_is_the_same(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest == verify_bundle(folder)
    assert manifest.kept == KEPT
    assert [choice["model"] for choice in manifest.validation] == ["aligned", "pre-trained"]
    assert manifest.files == {name: hash_file(folder / name) for name in ("decoder.json", "model/weights")}


def test_write_manifest_when_a_file_differs_then_so_does_the_version_but_not_by_what_was_tried(folder: Path) -> None:
    before = read_manifest(folder).model_version
    assert write_manifest(folder, kept={}, validation=[]).model_version == before
    (folder / "decoder.json").write_text("{ }")
    assert write_manifest(folder, kept=KEPT, validation=[]).model_version != before


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "model" / "weights").write_bytes(b"124"), r"model/weights changed \(1 such"),
        (lambda folder: (folder / "decoder.json").unlink(), "decoder.json is missing"),
        (lambda folder: (folder / "model" / "more").touch(), "model/more was added"),
        (lambda folder: (folder / FILE).unlink(), "must exist"),
        (lambda folder: (folder / FILE).write_text("{"), "must be the manifest of a bundle"),
        (lambda folder: (folder / FILE).write_text("[]"), "must be the manifest of a bundle"),
        (lambda folder: (folder / FILE).write_text('{"model_version": "1"}'), "must be the manifest of a bundle"),
        (lambda folder: change(folder, format=1), "must have format 3, got 1"),
        (lambda folder: change(folder, files=["x"]), "must be the manifest of a bundle"),
        (lambda folder: change(folder, model_version="abc"), "must name the version"),
    ],
)
def test_verify_bundle_when_something_does_not_fit_then_names_it(folder: Path, spoil, message: str) -> None:  # type: ignore[no-untyped-def]
    spoil(folder)
    with pytest.raises(ArtifactError, match=message):
        verify_bundle(folder)


def change(folder: Path, **values: object) -> None:
    content = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps({**content, **values}))
