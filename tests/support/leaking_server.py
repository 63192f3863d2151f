"""The small shop behind a socket, with a model that keeps so many bytes for good at every request.

``python -m tests.support.leaking_server RUN PORT BYTES``
"""

import sys
from pathlib import Path

import uvicorn

from recsys.contracts import Slate
from serving.app import create_app
from serving.settings import ServingConfig
from tests.support.small_shop import Fake, bundle_of


def main(run: Path, port: int, size: int) -> None:
    """Serve until the process is ended."""
    kept: list[bytes] = []

    def leak(slate: Slate) -> Slate:
        kept.append(b"x" * (size + len(kept)))  # written to, so that it is resident
        return slate

    app = create_app(
        run,
        config=ServingConfig(deadline_seconds=60, store_seconds=60),
        loader=lambda folder: bundle_of(Fake(leak), folder),
    )
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
