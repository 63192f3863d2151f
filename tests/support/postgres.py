"""A private PostgreSQL 15 cluster on a free loopback port, run by a user that is not root."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BINARIES = Path("/usr/lib/postgresql/15/bin")


def missing() -> str | None:
    """Return why no cluster can be started here, or None."""
    if not (BINARIES / "initdb").exists():
        return f"PostgreSQL 15 is not installed (no {BINARIES}); `.ci/packages` installs it where apt is there"
    if os.getuid() == 0 and _user() is None:
        return "PostgreSQL does not run as root, and there is no user postgres"
    return None


@contextmanager
def cluster() -> Iterator[str]:
    """Start a cluster and yield the URL of its server, without a database's name; stop it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="recsys-postgres-"))
    data = folder / "data"
    user = _user() if os.getuid() == 0 else None
    if user is not None:
        shutil.chown(folder, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    _run(user, "initdb", "-D", str(data), "-U", "tester", "--auth=trust", "--no-sync", "-E", "UTF8", "--no-locale")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c max_connections=60"
    _run(user, "pg_ctl", "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql+psycopg://tester@127.0.0.1:{port}"
    finally:
        _run(user, "pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def _user() -> str | None:
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return None


def _run(user: str | None, program: str, *arguments: str) -> None:
    # A file, not a pipe: the server that pg_ctl leaves behind would hold a pipe open.
    with tempfile.TemporaryFile() as output:
        command = [str(BINARIES / program), *arguments]
        done = subprocess.run(command, user=user, cwd="/", stdout=output, stderr=output, check=False)
        if done.returncode:
            output.seek(0)
            raise RuntimeError(f"{program} ended with {done.returncode}: {output.read().decode(errors='replace')}")
