"""A server without new items answers, with reasons too, in a process that never imports torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.flow import train
from pipelines.recipe import load_recipe

SCRIPT = """
import sys
from pathlib import Path

from fastapi.testclient import TestClient
from serving.app import create_app
from serving.settings import ServingConfig

config = ServingConfig(encoder_at_start=False)
with TestClient(create_app(Path(sys.argv[1]), store=f"sqlite:///{sys.argv[2]}", config=config)) as client:
    service = client.app.state.service
    assert service.releases.wait(120)
    assert service.releases.current.reason == "", service.releases.current.reason
    for explain in (False, True):
        answer = client.post("/v1/recommend", json={"user_id": "1", "n": 5, "explain": explain}).json()
        assert answer["degraded"] is None and len(answer["items"]) == 5, answer
    body = {"user_id": "1", "item_id": answer["items"][0]["item_id"]}
    assert client.post("/v1/explain", json=body).status_code == 200
heavy = {"torch", "transformers", "faiss", "sklearn", "ray"} & set(sys.modules)
print(f"imported: {sorted(heavy)}")
"""


@pytest.mark.parametrize("experts", [True, False], ids=["with token experts", "without token experts"])
def test_server_when_no_item_is_new_then_answers_without_torch_and_other_training_libraries(
    world: Path, run: Path, tmp_path: Path, experts: bool
) -> None:
    assert (run / "bundle" / "tokens").is_dir()
    if not experts:
        bare = load_recipe("smoke", ("experts.trained=[]", "evaluation.max_users=5"))
        train(world, tmp_path / "bare", bare, use_ray=False, reuse_from=run)
        run = tmp_path / "bare"
    command = [sys.executable, "-c", SCRIPT, str(run), str(tmp_path / "store.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "imported: []"
