"""A Ray that does not start is one line, not a traceback."""

import pytest
import ray

from pipelines.ray_session import ray_session
from recsys.core.errors import WorkerError


def test_ray_session_when_ray_does_not_start_then_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(**_options: object) -> None:
        raise Exception("The current node timed out during startup.\nMore lines.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", busy)
    with (
        pytest.raises(
            WorkerError, match=r"got: The current node timed out during startup\.; run .*--no-ray"
        ) as refused,
        ray_session(),
    ):
        pass
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("named", "wanted"), [("", "local"), ("10.0.0.1:6379", None)])
def test_ray_session_when_no_cluster_is_named_then_starts_its_own_beside_any_other(
    monkeypatch: pytest.MonkeyPatch, named: str, wanted: str | None
) -> None:
    asked: list[dict[str, object]] = []
    monkeypatch.setenv("RAY_ADDRESS", named)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: asked.append(options))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with ray_session():
        pass
    assert [options.get("address") for options in asked] == [wanted]
