"""Drift of a day: whether its events resemble those of the days before it, and whether to train in full again.

Axes: V kind (an item category, or a code of one codebook), Y draw.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from pydantic import Field

from recsys.core.arrays import IntArray
from recsys.core.config import Config
from recsys.core.divergence import js_divergence
from recsys.core.seeds import rng_for
from recsys.recommender.drift import Drift

_DRAWS = 200


class DayBounds(Config):
    """From where on an update is not enough and a full training is advised."""

    max_divergence: float = Field(default=0.1, gt=0, le=1)
    """Largest Jensen-Shannon divergence, in bits, of the day's events from the reference's, by category or by code."""
    max_new_item_events: float = Field(default=0.3, gt=0, le=1)
    """Largest share of the day's events that are of items that were in no training."""
    max_grown_items: float = Field(default=0.2, gt=0)
    """By what share the catalogue may have grown since features and tokenizer were fitted."""
    max_score_drop: float = Field(default=0.3, gt=0, le=1)
    """By what share NDCG@10 of the model before the update may be lower on the day than on its own test."""
    min_questions: int = Field(default=100, ge=1)
    """On fewer of the day's users a lower NDCG@10 is no reason."""
    max_updates: int = Field(default=30, ge=1)
    """How many updates may follow a full training."""
    significance: float = Field(default=0.01, gt=0, lt=1)
    """How unlikely by chance a divergence above its bound must be."""


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """How far a day's events lie from the reference's in one respect.

    ``divergence`` is Jensen-Shannon's, in bits: 0 for equal shares, 1 for no kind in common. ``by_chance`` is what a
    day of so many events drawn one by one from the reference stays below with 1 - significance; a day of few users, who
    each like their own kinds, lies above it without any drift.
    """

    divergence: float
    by_chance: float

    def exceeds(self, bound: float) -> bool:
        """Tell whether it is above the bound and above chance."""
        return self.divergence > max(bound, self.by_chance)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """NDCG@10, seen items removed, on the day's events of a sample of users: before and after the update.

    ``own_test`` is what the model before the update has on its own test; None where it was not evaluated.
    """

    questions: int
    before: float
    after: float
    own_test: float | None


@dataclass(frozen=True, kw_only=True)
class DayDrift:
    """A day compared with the reference, and ``reasons`` to train in full; none where an update is enough.

    ``grown_items`` is the share of items that came after features and tokenizer were fitted, by their number then.
    """

    reference_events: int
    day_events: int
    new_item_events: float
    grown_items: float
    updates: int
    items: Drift
    categories: Divergence
    codes: tuple[Divergence, ...]
    scores: Scores | None
    reasons: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The advice in words."""
        if not self.reasons:
            return "The day is like those before it; the update is enough."
        return f"Train in full soon: {'; '.join(self.reasons)}."

    def to_json(self) -> dict[str, Any]:
        """Return the JSON of the report."""
        return asdict(self) | {"items": self.items.to_json(), "sentence": self.sentence}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "DayDrift":
        """Return a day from what :meth:`to_json` returned."""
        known = {field.name: content[field.name] for field in fields(cls)}
        known |= {
            "items": Drift.from_json(content["items"]),
            "categories": Divergence(**content["categories"]),
            "codes": tuple(Divergence(**one) for one in content["codes"]),
            "scores": Scores(**content["scores"]) if content["scores"] else None,
            "reasons": tuple(content["reasons"]),
        }
        return cls(**known)


@dataclass(frozen=True, kw_only=True)
class DayFacts:
    """The inputs of :func:`assess_day`.

    Shape:
        reference_items_E, day_items_E: (events,) catalogue indices.
        category_N: (items,), codes_NM: (items, codebooks).
        fitted: how many items features and tokenizer were fitted on; trained: how many the model before has.
    """

    reference_items_E: IntArray
    day_items_E: IntArray
    category_N: IntArray
    codes_NM: IntArray
    fitted: int
    trained: int
    updates: int
    items: Drift
    scores: Scores | None


def assess_day(facts: DayFacts, bounds: DayBounds) -> DayDrift:
    """Compare a day's events with the reference's and say whether a full training is due."""

    def compare(kind_N: IntArray, name: str) -> Divergence:
        kinds = int(kind_N.max(initial=0)) + 1
        reference_V, day_V = (
            np.bincount(kind_N[items_E], minlength=kinds) for items_E in (facts.reference_items_E, facts.day_items_E)
        )
        return diverge(reference_V, day_V, significance=bounds.significance, name=name)

    categories = compare(facts.category_N, "categories")
    codes = tuple(compare(facts.codes_NM[:, book], f"codebook {book}") for book in range(facts.codes_NM.shape[1]))
    new_share = float((facts.day_items_E >= facts.trained).mean())
    grown = len(facts.category_N) / facts.fitted - 1
    reasons = [
        *_reasons_of_events(categories, codes, new_share, bounds),
        *_reasons_of_models(facts, grown, bounds),
    ]
    return DayDrift(
        reference_events=len(facts.reference_items_E),
        day_events=len(facts.day_items_E),
        new_item_events=new_share,
        grown_items=grown,
        updates=facts.updates,
        items=facts.items,
        categories=categories,
        codes=codes,
        scores=facts.scores,
        reasons=tuple(reasons),
    )


def diverge(reference_V: IntArray, day_V: IntArray, *, significance: float, name: str) -> Divergence:
    """Compare counts of kinds in a day with those in the reference.

    Shape:
        reference_V, day_V: (kinds,) events of each kind.
    """
    share_V = reference_V / max(1, reference_V.sum())
    divergence = float(js_divergence(share_V, day_V / max(1, day_V.sum())))
    if not reference_V.sum() or not day_V.sum():
        return Divergence(divergence=divergence, by_chance=1.0)
    rng = rng_for(0, "day drift", name)
    days_YV = rng.multinomial(int(day_V.sum()), share_V, size=_DRAWS) / day_V.sum()
    drawn_Y = js_divergence(share_V, days_YV)
    return Divergence(divergence=divergence, by_chance=float(np.quantile(drawn_Y, 1 - significance)))


def _reasons_of_events(
    categories: Divergence, codes: tuple[Divergence, ...], new_share: float, bounds: DayBounds
) -> list[str]:
    named: Mapping[str, Divergence] = {"categories": categories} | {
        f"codes of codebook {book}": one for book, one in enumerate(codes)
    }
    reasons = [
        f"the {name} of events are others (divergence {one.divergence:.2f} bits, bound {bounds.max_divergence:g})"
        for name, one in named.items()
        if one.exceeds(bounds.max_divergence)
    ]
    if new_share > bounds.max_new_item_events:
        reasons.append(f"{new_share:.0%} of events are of new items (bound {bounds.max_new_item_events:.0%})")
    return reasons


def _reasons_of_models(facts: DayFacts, grown: float, bounds: DayBounds) -> list[str]:
    reasons = []
    if facts.items.verdict == "drifting":
        reasons.append(facts.items.sentence.removesuffix("; train again soon."))
    if grown > bounds.max_grown_items:
        reasons.append(
            f"the catalogue has grown by {grown:.0%} since the tokenizer (bound {bounds.max_grown_items:.0%})"
        )
    if facts.updates > bounds.max_updates:
        reasons.append(f"{facts.updates} updates followed the last full training (bound {bounds.max_updates})")
    scores = facts.scores
    if scores is not None and scores.own_test and scores.questions >= bounds.min_questions:
        drop = 1 - scores.before / scores.own_test
        if drop > bounds.max_score_drop:
            reasons.append(
                f"NDCG@10 was {drop:.0%} lower on the day than on the test (bound {bounds.max_score_drop:.0%})"
            )
    return reasons
