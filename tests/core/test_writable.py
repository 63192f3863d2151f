"""Places that cannot be written are found before the work."""

from pathlib import Path

import pytest

from recsys.core.errors import ArtifactError
from recsys.core.writable import require_writable_file, require_writable_folder


def test_require_writable_folder_when_new_then_is_made_and_left_empty(tmp_path: Path) -> None:
    assert list(require_writable_folder(tmp_path / "a" / "b").iterdir()) == []


def test_require_writable_folder_when_a_file_or_a_system_folder_then_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        with pytest.raises(ArtifactError, match="must be a folder that can be written"):
            require_writable_folder(place)


def test_require_writable_file_when_it_cannot_be_then_says_why(tmp_path: Path) -> None:
    assert require_writable_file(tmp_path / "a.json") == tmp_path / "a.json"
    with pytest.raises(ArtifactError, match="must be a file, got a folder"):
        require_writable_file(tmp_path)
    with pytest.raises(ArtifactError, match="must lie in a folder that exists"):
        require_writable_file(tmp_path / "nowhere" / "a.json")
