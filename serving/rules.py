"""Rules: which are in force for a request, and what they do to its plan."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from recsys.core.telemetry import LOG
from serving.filters import unknown
from serving.schemas.writes import Rule
from serving.store.changes import StoredRule


@dataclass(frozen=True, kw_only=True)
class NamedRule:
    """A version of a rule."""

    name: str
    version: int
    rule: Rule

    @property
    def label(self) -> str:
        """Name and version, as answers and logs show them."""
        return f"{self.name}@{self.version}"


def read_rules(stored: Sequence[StoredRule]) -> tuple[NamedRule, ...]:
    """Return stored rules; one that this version cannot read is left out and logged."""
    found: list[NamedRule] = []
    for one in stored:
        try:
            found.append(NamedRule(name=one.name, version=one.version, rule=Rule.model_validate(one.body)))
        except ValidationError as error:
            LOG.error("the rule %s version %d cannot be read and is not applied: %s", one.name, one.version, error)
    return tuple(found)


def in_force(
    rules: Sequence[NamedRule], *, names: Sequence[str] | None, surface: str | None, now: int
) -> list[NamedRule]:
    """Return the rules that a request is under, by name.

    Args:
        rules: all of them.
        names: those that the request asks for; None for all.
        surface: where its slate is shown.
        now: unix seconds.
    """
    if names is not None:
        known = {one.name for one in rules}
        for name in names:
            if name not in known:
                raise unknown("body.rules", "names of rules that exist", name, sorted(known))
    return [one for one in rules if (names is None or one.name in names) and _in_force(one.rule, surface, now)]


def _in_force(rule: Rule, surface: str | None, now: int) -> bool:
    return (
        rule.enabled
        and (rule.starts_at is None or rule.starts_at <= now)
        and (rule.ends_at is None or now < rule.ends_at)
        and (rule.surfaces is None or surface in rule.surfaces)
    )
