"""The plan of one slate: which items may be shown, what moves their scores, and what bounds the slate.

Axes: N item. Everything here is about the rows of one release and lives as long as one request.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from recsys.core.arrays import BoolArray, FloatArray, IntArray
from recsys.core.telemetry import LOG
from serving.facets import Code, FacetTable
from serving.filters import filter_mask, unknown
from serving.items import ItemTable
from serving.problems import ProblemError
from serving.rules import NamedRule
from serving.schemas.common import Facet, Filter, Steer
from serving.schemas.writes import Rule
from serving.settings import ServingConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class Cap:
    """At most ``share`` of a slate may be of one group of items.

    ``groups`` are the groups of every row, ``members`` the rows of every group.
    """

    groups: Sequence[Sequence[int]]
    members: Sequence[IntArray]
    share: float


@dataclass(frozen=True, kw_only=True)
class Pin:
    """An item's fixed place in the slate, from 0, by which rule."""

    row: int
    place: int
    label: str


@dataclass(frozen=True, kw_only=True)
class Exploration:
    """Which share of the places is sampled, from how many of the best items, at which temperature."""

    share: float
    temperature: float
    pool: int


@dataclass(kw_only=True, eq=False)
class Plan:
    """One slate's plan.

    ``bars`` names what bars items, with the items, where that is requested; ``wanted_facets`` are the facets asked for.

    Shape:
        eligible_N: (items,) True where an item may be shown.
        bonus_N: (items,) added to log-probabilities; None where nothing moves them.
    """

    n: int
    eligible_N: BoolArray
    bonus_N: FloatArray | None = None
    caps: list[Cap] = field(default_factory=list)
    pins: list[Pin] = field(default_factory=list)
    exploration: Exploration | None = None
    wanted_facets: list[Code] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    bars: list[tuple[str, BoolArray]] | None = None

    @property
    def plain(self) -> bool:
        """Whether the model's own ranking of eligible items is the slate."""
        return self.bonus_N is None and not self.caps and not self.pins and self.exploration is None

    def bar(self, reason: str, barred_N: BoolArray) -> None:
        """Take items out.

        Shape:
            barred_N: (items,) True where an item may not be shown.
        """
        self.eligible_N &= ~barred_N
        if self.bars is not None:
            self.bars.append((reason, barred_N))

    def bar_rows(self, reason: str, rows: IntArray) -> None:
        """Take items out by row.

        Shape:
            rows: (barred items,).
        """
        self.eligible_N[rows] = False
        if self.bars is not None:
            barred_N = np.zeros(len(self.eligible_N), np.bool_)
            barred_N[rows] = True
            self.bars.append((reason, barred_N))

    def lift(self, members_N: BoolArray, bonus: float) -> None:
        """Add to the log-probability of items.

        Shape:
            members_N: (items,).
        """
        if self.bonus_N is None:
            self.bonus_N = np.zeros(len(self.eligible_N), np.float32)
        self.bonus_N[members_N] += np.float32(bonus)


def start_plan(items: ItemTable, *, n: int, now: int, reasons: bool = False) -> Plan:
    """Return the plan that shows whatever is in stock and in its dates."""
    showable_N = items.facts.showable(now)
    plan = Plan(n=n, eligible_N=showable_N, bars=[] if reasons else None)
    if plan.bars is not None:
        plan.bars.append(("it is not available now", ~showable_N))
    return plan


def add_filter(plan: Plan, items: ItemTable, wanted: Filter) -> None:
    """Take out what does not fulfil a request's filter."""
    plan.bar("the filter", ~filter_mask(items, wanted))


def add_steering(plan: Plan, facets: FacetTable, steer: Steer, config: ServingConfig) -> None:
    """Bar what lacks a required facet or has an avoided one, and lift what has preferred ones."""
    for place, facet in enumerate(steer.require):
        codes = _codes(facets, facet, f"body.steer.require.{place}")
        plan.bar(f"steer.require {_shown(facet)}", ~_having(facets, codes))
        plan.wanted_facets += codes
    for place, facet in enumerate(steer.avoid):
        codes = _codes(facets, facet, f"body.steer.avoid.{place}")
        plan.bar(f"steer.avoid {_shown(facet)}", _having(facets, codes))
    for place, facet in enumerate(steer.prefer):
        codes = _codes(facets, facet, f"body.steer.prefer.{place}")
        plan.lift(_having(facets, codes), config.prefer_bonus)
        plan.wanted_facets += codes


def add_rules(plan: Plan, items: ItemTable, rules: Sequence[NamedRule]) -> None:
    """Apply the rules in force: exclusions, lifts and caps first, then pins of items that may still be shown.

    A rule that does not fit this release (a column or category that is gone) is left out and logged.
    """
    for one in sorted(rules, key=lambda one: one.rule.kind == "pin"):
        try:
            _add_rule(plan, items, one)
            plan.rules.append(one.label)
        except ProblemError as error:
            LOG.warning("the rule %s does not fit this release and was not applied: %s", one.label, error.detail)


def _add_rule(plan: Plan, items: ItemTable, one: NamedRule) -> None:
    rule = one.rule
    if rule.kind == "cap" and rule.by is not None:
        column, share = rule.by, rule.share
        plan.caps.append(items.cached(f"cap {share} {column}", lambda: _cap_by(items, column, share)))
        return
    members_N = rule_members(items, rule)
    if rule.kind == "exclude":
        plan.bar(f"the rule {one.label}", members_N)
    elif rule.kind == "cap":
        groups = [(0,) if member else () for member in members_N.tolist()]
        plan.caps.append(Cap(groups=groups, members=[np.flatnonzero(members_N)], share=rule.share))
    elif rule.kind in ("boost", "bury"):
        plan.lift(members_N, float(np.log(rule.factor)) * (1 if rule.kind == "boost" else -1))
    else:
        _pin(plan, members_N, one)


def add_exploration(plan: Plan, config: ServingConfig) -> None:
    """Have the last places of the slate sampled where the server explores."""
    if config.explore_share:
        plan.exploration = Exploration(
            share=config.explore_share, temperature=config.explore_temperature, pool=config.explore_pool
        )


def facets_met(plan: Plan, facets: FacetTable, row: int) -> list[str]:
    """Return the words of the facets asked for that an item has."""
    has = [code for code in plan.wanted_facets if facets.codes_NM[row, code[0]] == code[1]]
    return list(dict.fromkeys(facets.name(*code) for code in has))


def rule_members(items: ItemTable, rule: Rule) -> BoolArray:
    """Return the items that a rule is for: those it lists, and those that meet its condition.

    Shape:
        return: (items,).
    """
    members_N = np.zeros(len(items), np.bool_)
    members_N[items.indices_of(rule.items)] = True
    if rule.where is not None:
        members_N |= filter_mask(items, rule.where, where="body.where")
    return members_N


def _pin(plan: Plan, members_N: BoolArray, one: NamedRule) -> None:
    taken = {pin.place for pin in plan.pins}
    place = one.rule.position - 1
    while place in taken:
        place += 1
    for row in np.flatnonzero(members_N & plan.eligible_N).tolist():
        if place < plan.n and row not in {pin.row for pin in plan.pins}:
            plan.pins.append(Pin(row=row, place=place, label=one.label))


def _cap_by(items: ItemTable, column: str, share: float) -> Cap:
    """Return a cap for each value of a column; an item with several values counts for each."""
    values = items.values(column)
    if values is None:
        raise unknown("body.by", "a column of the items", column, items.columns.column_names)
    numbers: dict[str, int] = {}
    groups: list[tuple[int, ...]] = []
    members: list[list[int]] = []
    for row, value in enumerate(values):
        parts = dict.fromkeys(
            str(part).casefold() for part in (value if isinstance(value, list) else [value]) if part is not None
        )
        own = tuple(numbers.setdefault(part, len(numbers)) for part in parts)
        groups.append(own)
        for number in own:
            if number == len(members):
                members.append([])
            members[number].append(row)
    return Cap(groups=groups, members=[np.asarray(rows, np.int64) for rows in members], share=share)


def _codes(facets: FacetTable, facet: Facet, where: str) -> list[Code]:
    if isinstance(facet, str):
        if not (codes := facets.codes_of(facet)):
            raise unknown(where, "words of a facet that GET /v1/facets shows", facet, list(facets.words.values()))
        return list(codes)
    code = (facet[0], facet[1])
    if not facets.holds(code):
        raise unknown(where, "a [codebook, code] that some item has", str(facet), ["what GET /v1/facets shows"])
    return [code]


def _having(facets: FacetTable, codes: Sequence[Code]) -> BoolArray:
    return np.logical_or.reduce([facets.having(code) for code in codes])


def _shown(facet: Facet) -> str:
    return repr(facet) if isinstance(facet, str) else f"codebook {facet[0]}, code {facet[1]}"
