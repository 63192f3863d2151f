"""`recsys serve --ray`: a killed replica costs no client more than one retry; the Serve config file; swaps in place."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import httpx
import pytest
import yaml  # type: ignore[import-untyped]
from fastapi.testclient import TestClient

from recsys.core.errors import CallError
from serving import app as serving_app
from serving.process import Options
from serving.ray_serve import APPLICATION, Replica, ReplicaArgs, _ray, build, serve_on_ray
from serving.settings import Keys, ServingConfig
from tests.serving.test_releases import change_title, second_version
from tests.support.server import free_port, running
from tests.support.small_shop import Fake, bundle_of, ids, make_run, service_of, version_of

CONFIG = Path(__file__).parents[2] / "deploy" / "serve.yaml"
SECONDS = 900
"""For a machine that is busy with other things to start Ray in."""


def below(root: int, what: str) -> list[int]:
    """Return the descendants of a process whose command line holds a word."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
            names[int(entry.name)] = (entry / "cmdline").read_text()
        except OSError:
            continue  # it ended meanwhile
        parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])

    def descends(pid: int) -> bool:
        while pid in parents:
            pid = parents[pid]
            if pid == root:
                return True
        return False

    return sorted(pid for pid, name in names.items() if what in name and descends(pid))


def replicas_below(root: int) -> list[int]:
    """Return the processes of replicas among the descendants of a process."""
    return below(root, "ray::ServeReplica")


def own_ports() -> dict[str, str]:
    """Return the environment under which HAProxy shares no port with another one of this machine."""
    names = ("RAY_SERVE_HAPROXY_METRICS_PORT", "RAY_SERVE_HAPROXY_STATS_PORT")
    return {name: str(free_port()) for name in names}


@pytest.fixture
def unsealed(tmp_path: Path) -> Path:
    """A run whose model is refused before torch is loaded: replicas start quickly, and the fallback answers."""
    run = make_run(tmp_path / "run")
    (run / "bundle" / "stray").write_text("x")
    return run


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(2 * SECONDS)
def test_serve_on_ray_when_a_replica_is_killed_under_load_then_no_request_fails_after_two_retries(
    unsealed: Path,
) -> None:
    with running(unsealed, more=["--ray", "--workers", "2"], env=own_ports(), ready_seconds=SECONDS) as (
        client,
        server,
    ):
        until = time.monotonic() + SECONDS
        while len(before := replicas_below(server.pid)) < 2:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert below(server.pid, "/haproxy")  # requests come through HAProxy, not through Ray's proxy in Python
        base, stop = str(client.base_url), Event()
        answered: list[int] = []
        retried: list[str] = []
        failed: list[str] = []

        def ask(number: int) -> None:
            with httpx.Client(base_url=base, timeout=120) as own:
                while not stop.is_set():
                    # as clients should: once more at once, and again after half a second
                    for attempt, pause in ((retried, 0.0), (retried, 0.5), (failed, 0.0)):
                        try:
                            answer = own.post("/v1/recommend", json={"history": [], "n": 2})
                            if answer.status_code == 200:
                                assert ids(answer) == ["13", "11"]
                                answered.append(number)
                                break
                            attempt.append(f"{answer.status_code} {answer.text}")
                        except httpx.TransportError as error:
                            attempt.append(repr(error))
                        stop.wait(pause)

        threads = [Thread(target=ask, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        wait_for(answered, 30)
        os.kill(before[0], signal.SIGKILL)
        wait_for(answered, len(answered) + 200)
        while len(after := replicas_below(server.pid)) < 2:  # the killed one is replaced
            assert time.monotonic() < until
            time.sleep(0.1)
        wait_for(answered, len(answered) + 30)
        stop.set()
        for thread in threads:
            thread.join(300)
        print(f"{len(answered)} answered, retried {retried}, failed {failed}")  # noqa: T201 (pytest -s)
        assert failed == []
        assert before[0] not in after


def wait_for(answered: list[int], count: int) -> None:
    """Wait until so many requests are answered."""
    until = time.monotonic() + SECONDS
    while len(answered) < count:
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of ray.serve's own settings
def test_serve_config_when_read_by_ray_then_is_valid_and_its_application_is_built() -> None:
    from ray.serve.schema import ServeDeploySchema

    schema = ServeDeploySchema.model_validate(yaml.safe_load(CONFIG.read_text()))
    (application,) = schema.applications
    assert application.import_path == "serving.ray_serve:build"
    args = ReplicaArgs.model_validate(application.args)
    built = build(args)
    deployment = built._bound_deployment
    assert [one.name for one in application.deployments] == [deployment.name] == [APPLICATION]
    scaling = deployment._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (2, 8, 8)
    assert deployment._deployment_config.max_ongoing_requests == 2 * ServingConfig().max_in_flight


@pytest.fixture
def fake_loader(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Have replicas load a fake model."""
    fake, real = Fake(), serving_app.create_app

    def create(run: Path, *, store: str | None, keys: Keys, config: ServingConfig) -> object:
        return real(run, store=store, keys=keys, config=config, loader=lambda folder: bundle_of(fake, folder))

    monkeypatch.setattr("serving.ray_serve.create_app", create)
    return fake


@pytest.fixture
def replica(shop: Path, fake_loader: Fake) -> Iterator[tuple[Replica, TestClient]]:  # noqa: ARG001 (it patches)
    replica = Replica(ReplicaArgs(run=shop, config=ServingConfig(deadline_seconds=30)))
    with TestClient(replica.__serve_build_asgi_app__()) as client:
        asyncio.run(replica.reconfigure({"version": None}))
        yield replica, client


def test_reconfigure_when_it_names_a_version_then_swaps_in_place(
    shop: Path, replica: tuple[Replica, TestClient]
) -> None:
    second = second_version(shop)
    served, client = replica
    first = version_of(shop)
    assert client.post("/v1/recommend", json={"history": []}).json()["model_version"] == first
    asyncio.run(served.reconfigure({"version": second}))
    assert client.post("/v1/recommend", json={"history": []}).json()["model_version"] == second
    asyncio.run(served.reconfigure({"version": first}))
    assert client.post("/v1/recommend", json={"history": []}).json()["model_version"] == first


def test_reconfigure_when_the_version_is_broken_or_unknown_then_the_old_one_stays(
    shop: Path, replica: tuple[Replica, TestClient]
) -> None:
    second = second_version(shop)
    change_title(shop / "releases" / "second")
    served, client = replica
    for version in (second, "none-such"):
        asyncio.run(served.reconfigure({"version": version}))
        answer = client.post("/v1/recommend", json={"history": []}).json()
        assert (answer["model_version"], answer["degraded"]) == (version_of(shop), None)


def test_check_health_when_the_model_is_stuck_then_ray_is_told(replica: tuple[Replica, TestClient]) -> None:
    served, client = replica
    served.check_health()
    service_of(client).model.stuck = lambda seconds: seconds == 30  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="more than 30 seconds"):
        served.check_health()


def test_serve_on_ray_when_machines_would_share_a_sqlite_file_then_is_refused(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    options = Options(run=shop, host="127.0.0.1", port=1, store=None, keys=Keys(), config=ServingConfig(), workers=2)
    with pytest.raises(CallError, match="must be PostgreSQL, got SQLite"):
        serve_on_ray(options)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of ray.serve's own settings
@pytest.mark.parametrize(("elsewhere", "wanted"), [(False, "local"), (True, None)])
def test_ray_when_no_cluster_is_named_then_starts_its_own_beside_any_other(
    shop: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: bool, wanted: str | None
) -> None:
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(os, "environ", {**os.environ})  # flags of Ray are set there
    monkeypatch.setattr("ray.init", lambda **options: asked.append(options))
    monkeypatch.setattr("ray.shutdown", lambda: None)
    monkeypatch.setattr("ray.serve.shutdown", lambda: None)
    with _ray(ReplicaArgs(run=shop, config=ServingConfig()), elsewhere=elsewhere):
        pass
    assert [options.get("address") for options in asked] == [wanted]
