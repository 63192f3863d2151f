"""One part of a batch job: its users' histories in, recommendations out."""

from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from pipelines.batch.folder import USERS_SCHEMA, BatchFolder
from pipelines.batch.plan import ROW, BatchPlan
from recsys.contracts import Slate, requests_for
from recsys.core.arrays import IntArray
from recsys.core.errors import RecsysError
from recsys.core.telemetry import LOG
from recsys.data import schema
from recsys.data.histories import HistoryReader
from recsys.data.table import read_parquet
from recsys.data.vocabulary import UNKNOWN
from recsys.recommender.bundle import load_bundle

USERS_PER_CALL: Final = 256
"""Users of one call of the model."""


class PartWorker:
    """Answers parts one after the other; the model is loaded once."""

    def __init__(self, run: Path, folder: BatchFolder, plan: BatchPlan, *, n: int) -> None:
        self._bundle = load_bundle(run / "bundle", trace=False, verify=False)
        self._histories = HistoryReader(run / "data")
        self._folder, self._plan, self._n = folder, plan, n
        self._item_ids = self._bundle.vocabulary.to_arrow()

    def answer(self, part: int) -> None:
        """Answer every user of a part once and write the part."""
        users_table = read_parquet(self._plan.asked_file(part))
        texts = users_table[schema.USER].to_pylist()
        first = list({text: place for place, text in reversed(list(enumerate(texts)))}.values())
        places = np.sort(np.array(first, np.int64))
        users, rows_U = pa.array([texts[place] for place in places]), users_table[ROW].to_numpy()[places]
        slates = self._slates(rows_U)
        lengths = [len(slate.items) for slate in slates]
        status = [users, pa.array(rows_U != UNKNOWN), pa.array(lengths, pa.int32())]
        self._folder.write_part(
            part,
            self._table(users, slates, lengths),
            pa.table(status, schema=USERS_SCHEMA),
            duplicates=len(texts) - len(users),
        )

    def _slates(self, rows_U: IntArray) -> list[Slate]:
        slates: list[Slate] = []
        for start in range(0, len(rows_U), USERS_PER_CALL):
            histories = self._histories.read(rows_U[start : start + USERS_PER_CALL])
            slates += self._bundle.recommender.recommend(requests_for(histories, n=self._n))
        return slates

    def _table(self, users: pa.Array, slates: list[Slate], lengths: list[int]) -> pa.Table:
        items = np.concatenate([np.empty(0, np.int64), *(slate.items for slate in slates)])
        scores = np.concatenate([np.empty(0, np.float32), *(slate.scores for slate in slates)])
        ranks = np.concatenate([np.empty(0, np.int64), *(np.arange(1, length + 1) for length in lengths)])
        return pa.table(
            {
                schema.USER: users.take(pa.array(np.repeat(np.arange(len(users)), lengths))),
                "rank": pa.array(ranks, pa.int32()),
                schema.ITEM: self._item_ids.take(pa.array(items)),
                "score": pa.array(scores, pa.float32()),
            }
        )


class RemoteWorker:
    """A :class:`PartWorker` in a process of Ray Data: parts come as batches, and errors go back as one line of text."""

    def __init__(self, run: Path, folder: BatchFolder, plan: BatchPlan, *, n: int) -> None:
        self._make = partial(PartWorker, run, folder, plan, n=n)
        self._worker: PartWorker | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Answer the parts in the column ``part`` and return them with a column ``error``, empty where all is well."""
        import torch

        torch.set_num_threads(1)
        errors = []
        for part in batch["part"].tolist():
            try:
                self._worker = self._worker or self._make()
                self._worker.answer(part)
                errors.append("")
            except RecsysError as error:
                errors.append(str(error))
            except Exception as error:  # crosses to the driver as text, where it ends the job
                LOG.exception("part %d", part)
                errors.append(f"part {part} failed, {type(error).__name__}: {error}; see it with --no-ray")
        return {"part": batch["part"], "error": np.array(errors, dtype=object)}
