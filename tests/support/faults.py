"""Random kills under a command that runs on a small Ray cluster: of its driver, of a worker process, of a machine."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
from ray._private import services
from ray.cluster_utils import Cluster

AT_REST = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Processes of Ray that do no work of ours; with an agent its whole machine ends, and is not replaced."""
KINDS = ("driver", "worker", "node")
STARTS = 3
"""So often a machine is started, the first time included."""
START_SECONDS = 300
"""So long a started machine may take to be known to the cluster; Ray gives it 30 seconds, too few on a busy one."""
PATIENCE = {"health_check_period_ms": 500, "health_check_failure_threshold": 40, "health_check_timeout_ms": 30_000}
"""A machine that is gone refuses calls at once and is given up after 20 s; a slow one may take minutes to answer."""
ROOT = Path(__file__).parents[2]


def two_machines() -> Cluster:
    """Return a cluster of a head without cores and two machines of one core."""
    cluster = Cluster()
    _add_node(cluster, num_cpus=0, include_dashboard=False, _system_config=PATIENCE)
    for _ in range(2):
        _add_node(cluster, num_cpus=1)
    return cluster


def _add_node(cluster: Cluster, **settings: Any) -> None:
    """Add a machine and wait until the cluster knows it; what did not make it is ended and started again."""
    before = psutil.Process().children()
    for left in reversed(range(STARTS)):
        try:
            with patch.object(services, "get_node", _patient(services.get_node)):
                cluster.add_node(**settings)
        except Exception as error:  # Ray raises the plain class
            if not left or "timed out during startup" not in str(error):
                raise
            for child in psutil.Process().children():
                if child not in before:
                    child.kill()
        else:
            return


def _patient(get_node: Callable[..., Any]) -> Callable[..., Any]:
    """Return Ray's question for a machine, asked again while the cluster does not know it or does not answer."""

    def asked_again(*args: Any) -> Any:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                return get_node(*args)
            except RuntimeError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    return asked_again


def start(address: str, script: str, *args: Path | str, log: Path) -> subprocess.Popen[bytes]:
    """Start a Python script in a process group of its own, connected to the cluster."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": address, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, *map(str, args)]
    with log.open("ab") as file:
        return subprocess.Popen(command, env=environment, stderr=file, start_new_session=True)


@dataclass
class Killer:
    """Draws what is killed and when; the same seed draws the same."""

    cluster: Cluster
    rng: np.random.Generator
    longest_seconds: float
    """A kill comes at a random moment within so many seconds after a start or the kill before."""
    kills: Counter[str] = field(default_factory=Counter)

    def torment(self, script: str, *args: Path | str, log: Path, kills: int, seconds: float) -> int:
        """Run a script until it ends well, killing something so many times; returns how often it was started.

        Raises:
            AssertionError: it did not end well in time.
        """
        end, starts, left = time.monotonic() + seconds, 1, kills
        process = start(self.cluster.address, script, *args, log=log)
        due = self._due()
        while time.monotonic() < end:
            if process.poll() == 0:
                return starts
            if process.poll() is not None:
                starts += 1
                process = start(self.cluster.address, script, *args, log=log)
            if left and time.monotonic() >= due and self._kill(process):
                left, due = left - 1, self._due()
            time.sleep(0.1)
        process.kill()
        raise AssertionError(f"must end within {seconds} s, see {log}")

    def _due(self) -> float:
        return time.monotonic() + float(self.rng.uniform(0.1, 1)) * self.longest_seconds

    def _kill(self, process: subprocess.Popen[bytes]) -> bool:
        """Kill something; tells whether there was something of the kind that is next."""
        kind = KINDS[self.kills.total() % len(KINDS)]
        if kind == "driver":
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        elif kind == "worker":
            found = _workers(self.cluster)
            if not found:
                return False
            found[int(self.rng.integers(len(found)))].kill()
        else:
            nodes = sorted(self.cluster.worker_nodes, key=lambda node: str(node.node_id))
            self.cluster.remove_node(nodes[int(self.rng.integers(len(nodes)))], allow_graceful=False)
            _add_node(self.cluster, num_cpus=1)
        self.kills[kind] += 1
        return True


def _workers(cluster: Cluster) -> list[Any]:
    """Return the processes of the cluster that do work: Ray names them after it."""
    found = []
    for node in cluster.worker_nodes:
        raylet = node.all_processes["raylet"][0].process.pid
        for child in psutil.Process(raylet).children(recursive=True):
            words = child.cmdline()
            if words and words[0].startswith("ray::") and words[0].split()[0] not in AT_REST:
                found.append(child)
    return sorted(found, key=lambda child: child.pid)
