"""Which of two releases answers a user: always the same one, by a hash of the user's id."""

import hashlib

from serving.release import Release
from serving.releases import Releases
from serving.settings import ServingConfig

CURRENT, SECOND = "current", "second"


def release_for(releases: Releases, config: ServingConfig, user_id: str | None) -> tuple[Release, str | None]:
    """Return the release that answers, and the name of the user's arm; None where nothing is compared.

    Who is not known is answered by the current release and belongs to no arm.
    """
    second = releases.second
    if second is None or second.model is None or user_id is None or config.split_version is None:
        return releases.current, None
    if position(user_id, config.split_version) < config.split_share:
        return second, SECOND
    return releases.current, CURRENT


def position(user_id: str, experiment: str) -> float:
    """Return a user's place in an experiment, even over [0, 1), the same in every process."""
    digest = hashlib.sha256(f"{experiment}\n{user_id}".encode("utf-8", "surrogatepass")).digest()
    return float(int.from_bytes(digest[:8], "big") / 2**64)
