"""The calls of an administrator: rules and activation."""

from recsys.core.errors import ArtifactError
from serving.filters import filter_mask
from serving.problems import ProblemError, shown
from serving.release import Release
from serving.rules import read_rules
from serving.schemas.writes import Rule
from serving.service import Service
from serving.store.changes import ACTIVE_MODEL, StoredRule


async def put_rule(service: Service, name: str, rule: Rule) -> StoredRule:
    """Keep the next version of a rule; on return it is on disk and in force here."""
    _require_applicable(service.releases.current, rule)

    def write() -> StoredRule:
        stored = service.store.changes.put_rule(name, rule.model_dump(mode="json", exclude_none=True))
        service.rules = read_rules(service.store.changes.rules())
        return stored

    return await service.threads.run(write, service.config.write_seconds)


async def list_rules(service: Service) -> list[StoredRule]:
    """Return the latest version of every rule."""
    return await service.threads.run(service.store.changes.rules, service.config.write_seconds)


async def list_versions(service: Service, name: str) -> list[StoredRule]:
    """Return every version of a rule, the latest first; none of a rule that is not there."""
    return await service.threads.run(lambda: service.store.changes.rule_versions(name), service.config.write_seconds)


async def activate(service: Service, version: str) -> Release:
    """Load, verify and warm a version and have it answer, here and soon on every other server."""

    def work() -> Release:
        with service.activation:
            release = service.releases.activate(version)
            service.store.changes.set(ACTIVE_MODEL, version)
        return release

    try:
        return await service.threads.run(work, service.config.activate_seconds)
    except KeyError as error:
        known = ", ".join(candidate.version for candidate in service.releases.candidates())
        raise ProblemError(
            404, f"the version must be one of {known}, got {shown(version)}; GET /v1/models lists them"
        ) from error
    except ArtifactError as error:
        raise ProblemError(409, f"the version was refused and the old one stays: {error}") from error


def _require_applicable(release: Release, rule: Rule) -> None:
    """Refuse a rule on columns or categories that no item has, before it is kept and spoils every request."""
    if rule.where is not None:
        filter_mask(release.items, rule.where, where="body.where")
    if rule.by is not None and release.items.values(rule.by) is None:
        raise ProblemError(422, f"by must be a column of the items, got {shown(rule.by)}; use one that is there")
