"""Deleting a person's data: in the store, in this server's memory, and in that of every other server."""

from collections.abc import Collection

from serving.schemas.writes import ForgetResponse
from serving.service import Service
from serving.store.users import user_hash

_FLUSH_SECONDS = 5.0


async def forget(service: Service, user_id: str) -> ForgetResponse:
    """Delete a person's events and exposures, and all that is kept of them in memory.

    Other servers of the store drop what they keep as soon as they see the store's counter, within a second.
    """

    def work() -> tuple[int, int]:
        # What was shown a moment ago may still be on its way to the store.
        service.exposures.flush(_FLUSH_SECONDS)
        return service.store.events.forget(user_id)

    events, exposures = await service.threads.run(work, service.config.write_seconds)
    _drop(service, [user_id])
    return ForgetResponse(events=events, exposures=exposures)


def forget_here(service: Service, hashes: Collection[str]) -> None:
    """Drop what this server keeps in memory of users that another one forgot, who are known by a hash only."""
    kept = {*service.histories.users(), *service.last_good_answers.users()}
    _drop(service, [user_id for user_id in kept if user_hash(user_id) in hashes])


def _drop(service: Service, user_ids: Collection[str]) -> None:
    for user_id in user_ids:
        service.histories.forget(user_id)
        service.last_good_answers.forget(user_id)
    service.releases.forget()
