"""A step scorer made of fixed random tables, so that decoding is tested without a model."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from recsys.codes.validity import ValidityIndex
from recsys.contracts import History, Slate, StepScores
from recsys.core.arrays import FloatArray, IntArray
from recsys.decoding.config import DecoderConfig, RankingConfig, SearchConfig
from recsys.decoding.decoder import decode


def history_of(*items: int) -> History:
    """Return a history of these items."""
    return History(items=np.array(items, np.int64), timestamps=np.arange(len(items)))


def decoder_config(**settings: Any) -> DecoderConfig:
    """Return a decoder's config from settings of its search and of its ranking."""
    search = {key: value for key, value in settings.items() if key in SearchConfig.model_fields}
    ranking = {key: value for key, value in settings.items() if key not in search}
    return DecoderConfig(search=SearchConfig(**search), ranking=RankingConfig(**ranking))


def decode_by(scorer: "TableScorer", index: ValidityIndex, histories: Sequence[History], **how: Any) -> list[Slate]:
    """Decode with the scorer as item scorer too, where the config lets one take part."""
    return decode(scorer, index, histories, item_scorer=scorer if how["config"].reads_items else None, **how)


class StepTable:
    """Logits and categories are sums of a table per user and a table per chosen token.

    A history's user is the sum of its items modulo ``users``. ``calls`` counts calls, ``seen`` keeps the partial
    paths that were scored.
    """

    def __init__(self, *, codebooks: int, codes: int, categories: int = 5, users: int = 4, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.users, self.codes = users, codes
        self.user_UMK = rng.normal(0, 2, (users, codebooks, codes)).astype(np.float32)
        self.token_TMK = rng.normal(0, 1, (codebooks * codes, codebooks, codes)).astype(np.float32)
        self.user_UQ = rng.normal(0, 1, (users, categories)).astype(np.float32)
        self.token_TQ = rng.normal(0, 1, (codebooks * codes, categories)).astype(np.float32)
        self.calls: Counter[str] = Counter()
        self.seen: list[IntArray] = []

    def encode(self, histories: Sequence[History]) -> IntArray:
        self.calls["encode"] += 1
        return np.array([int(history.items.sum()) % self.users for history in histories], np.int64)

    def score_steps(self, context: IntArray, row_P: IntArray, codes_PM: IntArray) -> StepScores:
        self.calls["score_steps"] += 1
        self.seen.append(codes_PM.copy())
        logits_PMK, category_PQ = self.user_UMK[context[row_P]], self.user_UQ[context[row_P]]
        for codebook in range(codes_PM.shape[1]):
            path = np.flatnonzero(codes_PM[:, codebook] >= 0)
            token = codebook * self.codes + codes_PM[path, codebook]
            logits_PMK[path] += self.token_TMK[token]
            category_PQ[path] += self.token_TQ[token]
        category_PQ = np.exp(category_PQ)
        return StepScores(logits_PMK=logits_PMK, category_PQ=category_PQ / category_PQ.sum(axis=1, keepdims=True))


class TableScorer(StepTable):
    """A step table that scores items too, from a random table."""

    def __init__(self, *, items: int, **sizes: int) -> None:
        super().__init__(**sizes)
        head_UN = np.random.default_rng([1, sizes.get("seed", 0)]).normal(0, 2, (self.users, items))
        self.head_UN = (head_UN - np.log(np.exp(head_UN).sum(1, keepdims=True))).astype(np.float32)

    def score_items(self, context: IntArray) -> FloatArray:
        self.calls["score_items"] += 1
        return self.head_UN[context]
