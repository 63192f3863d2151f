"""Which published release of a run serves: where releases lie, and the pointer that `recsys publish` moves.

Free of torch, so that a server can follow the pointer.
"""

import json
from pathlib import Path
from typing import Final

from recsys.core.errors import ArtifactError

RELEASES: Final = "releases"
CURRENT: Final = "current.json"


def published_version(run: Path) -> str | None:
    """Return the version that a run's pointer names, None before the first release.

    Raises:
        ArtifactError: the pointer cannot be read.
    """
    path = run / RELEASES / CURRENT
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["version"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} must name a version, got {error!r}; run `recsys publish` again") from error
