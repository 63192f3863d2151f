"""Drift: whether new items resemble those that the features and the tokenizer were fitted on.

Axes: N training item, I new item, F feature, Y draw.

New items are held against the training items as these would look if they too were new (a guessed behavioural row,
nearest codes): what is measured is the kind of item, not the lack of behaviour.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field
from scipy.stats import binomtest, ks_2samp

from recsys.core.arrays import FloatArray
from recsys.core.config import Config
from recsys.core.seeds import rng_for
from recsys.features.impute import present
from recsys.features.item_vectors import Features
from recsys.tokenizer.base import ItemTokenizer

Verdict = Literal["similar", "drifting"]
OVERALL = "overall"
_DRAWS = 200
_LEAST_SPREAD = 0.01


class DriftConfig(Config):
    """From where on new items count as another kind of items; each bound must also be passed beyond chance."""

    max_mean_shift: float = Field(default=0.3, gt=0)
    """Largest shift of the mean of a block or of the whole vectors, in training standard deviations."""
    max_far_share: float = Field(default=0.1, ge=0, le=1)
    """Largest share of new items that are reconstructed worse than 99 of 100 training items."""
    max_ks: float = Field(default=0.3, ge=0, le=1)
    """Largest Kolmogorov-Smirnov distance between new and training items' reconstruction errors."""
    significance: float = Field(default=0.01, gt=0, lt=1)
    """How unlikely by chance a passed bound must be."""
    max_training_items: int = Field(default=5000, ge=2)
    """Training items drawn for the comparison; fewer where there are fewer."""
    seed: int = 0
    """Root of the draws."""


@dataclass(frozen=True, kw_only=True)
class Shift:
    """How one block, or the whole vectors, lies to that of the training items.

    ``missing`` and ``missing_before`` are the shares of new and of training items without the block; the others are
    compared. ``mean_shift`` is the root mean square over axes of the means' difference in training standard
    deviations; ``by_chance`` is what two samples of these sizes, both of training items, stay below with
    1 - significance. Both are None where nothing can be compared.
    """

    missing: float
    missing_before: float
    mean_shift: float | None
    by_chance: float | None

    def exceeds(self, bound: float) -> bool:
        """Tell whether the shift is above the bound and above chance."""
        return (
            self.mean_shift is not None and self.by_chance is not None and self.mean_shift > max(bound, self.by_chance)
        )


@dataclass(frozen=True, kw_only=True)
class Drift:
    """The comparison of new items with the training items, and its verdict.

    ``shifts`` holds the blocks by name and "overall"; the figures of reconstruction are None where there are no
    new items.
    """

    items: int
    verdict: Verdict
    sentence: str
    shifts: Mapping[str, Shift]
    far_share: float | None
    ks: float | None
    ks_p: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON of the report."""
        return {
            "items": self.items,
            "verdict": self.verdict,
            "sentence": self.sentence,
            "shifts": {name: vars(shift) for name, shift in self.shifts.items()},
            "far_share": self.far_share,
            "ks": self.ks,
            "ks_p": self.ks_p,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Drift":
        """Read what :meth:`to_json` wrote."""
        shifts = {name: Shift(**values) for name, values in content["shifts"].items()}
        return cls(**{**content, "shifts": shifts})


def measure_drift(training: Features, new: Features, tokenizer: ItemTokenizer, config: DriftConfig) -> Drift:
    """Compare new items with training items block by block, as a whole, and by what the tokenizer loses of them.

    Args:
        training: the training items as if new (:meth:`FeatureBuilder.as_new`).
        new: the new items.
        tokenizer: as fitted on the training items.
        config: the bounds.
    """
    if not len(new.vectors_NF):
        return Drift(
            items=0,
            verdict="similar",
            sentence="There are no new items.",
            shifts={},
            far_share=None,
            ks=None,
            ks_p=None,
        )
    rng = rng_for(config.seed, "drift")
    count = len(training.vectors_NF)
    rows_N = np.sort(rng.choice(count, min(count, config.max_training_items), replace=False))
    pairs = {name: (training.blocks[name][rows_N], block_IF) for name, block_IF in new.blocks.items()}
    shifts = {name: _shift(before_NF, block_IF, config, rng) for name, (before_NF, block_IF) in pairs.items()}
    training_NF = training.vectors_NF[rows_N]
    shifts[OVERALL] = _shift(training_NF, new.vectors_NF, config, rng)
    before_N, now_I = _errors(training_NF, tokenizer), _errors(new.vectors_NF, tokenizer)
    far_I = now_I > np.quantile(before_N, 0.99)
    test = ks_2samp(now_I, before_N)
    ks, ks_p, far_share = float(test.statistic), float(test.pvalue), float(far_I.mean())
    far_p = float(binomtest(int(far_I.sum()), len(far_I), 0.01, alternative="greater").pvalue)
    reasons = [
        f"{name} vectors are {shift.mean_shift:.2f} standard deviations off (bound {config.max_mean_shift:g})"
        for name, shift in shifts.items()
        if shift.exceeds(config.max_mean_shift)
    ] + _reasons_of_coding(far_share, far_p, ks, ks_p, config)
    return Drift(
        items=len(now_I),
        verdict="drifting" if reasons else "similar",
        sentence=_sentence(len(now_I), reasons),
        shifts=shifts,
        far_share=far_share,
        ks=ks,
        ks_p=ks_p,
    )


def _reasons_of_coding(far_share: float, far_p: float, ks: float, ks_p: float, config: DriftConfig) -> list[str]:
    reasons = []
    if far_share > config.max_far_share and far_p < config.significance:
        reasons.append(
            f"{far_share:.0%} are coded worse than 99 of 100 training items (bound {config.max_far_share:.0%})"
        )
    if ks > config.max_ks and ks_p < config.significance:
        reasons.append(f"their coding errors are spread otherwise (KS {ks:.2f}, bound {config.max_ks:g})")
    return reasons


def _sentence(count: int, reasons: list[str]) -> str:
    what = "The new item" if count == 1 else f"The {count} new items"
    if not reasons:
        return f"{what} can be told from the training items by nothing that was measured."
    return f"{what} differ{'s' if count == 1 else ''} from the training items: {'; '.join(reasons)}; train again soon."


def _shift(before_NF: FloatArray, now_IF: FloatArray, config: DriftConfig, rng: np.random.Generator) -> Shift:
    """Compare the means of the rows that are there, axis by axis."""
    there_N, there_I = present(before_NF), present(now_IF)
    before_NF, now_IF = before_NF[there_N], now_IF[there_I]
    missing, missing_before = 1.0 - float(there_I.mean()), 1.0 - float(there_N.mean())
    if len(before_NF) < 2 or not len(now_IF):
        return Shift(missing=missing, missing_before=missing_before, mean_shift=None, by_chance=None)
    spread_F = before_NF.std(axis=0, dtype=np.float64)
    # An axis on which training items are all alike would make a rounding error look like a move.
    spread_F = np.maximum(spread_F, max(_LEAST_SPREAD * float(np.sqrt((spread_F**2).mean())), 1e-6))
    standard_NF = (before_NF - before_NF.mean(axis=0, dtype=np.float64)) / spread_F
    moved_F = (now_IF.mean(axis=0, dtype=np.float64) - before_NF.mean(axis=0, dtype=np.float64)) / spread_F
    count = len(now_IF)
    times_YN = rng.multinomial(count, np.full(len(before_NF), 1 / len(before_NF)), size=_DRAWS)
    drawn_Y = np.sqrt(((times_YN / count @ standard_NF) ** 2).mean(axis=1))
    # Both means are of samples, so the chance of the training items' own mean is added.
    drawn_Y *= np.sqrt(1 + count / len(before_NF))
    return Shift(
        missing=missing,
        missing_before=missing_before,
        mean_shift=float(np.sqrt((moved_F**2).mean())),
        by_chance=float(np.quantile(drawn_Y, 1 - config.significance)),
    )


def _errors(vectors_NF: FloatArray, tokenizer: ItemTokenizer) -> FloatArray:
    """Return each vector's squared distance to what its nearest codes keep of it, shape (items,)."""
    codes_NM = tokenizer.encode(vectors_NF, resolve=False)
    lost_NF = vectors_NF - tokenizer.reconstruct(vectors_NF, codes_NM)
    return np.asarray((lost_NF**2).sum(axis=1), np.float32)
