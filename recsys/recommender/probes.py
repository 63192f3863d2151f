"""The probe set of a bundle: some histories and the slates that its model gave when the bundle was made.

Loading a bundle on another machine runs the probes again: equal slates mean that model, catalogue and decoding came
across whole. Slates need not be equal to the bit, because arithmetic differs between machines.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from recsys.contracts import History, Recommender, requests_for
from recsys.core.artifacts import require, write_json
from recsys.core.errors import ArtifactError
from recsys.data.vocabulary import GivenEvent, Vocabulary

PROBES: Final = 16
"""How many histories a bundle keeps."""
SLATE: Final = 10
"""How many items are expected of each."""
_FILE = "probes.json"


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A history and the slate that was given for it, both as external ids, seen items removed."""

    history: tuple[GivenEvent, ...]
    expected: tuple[int | str, ...]
    scores: tuple[float, ...]


def make_probes(recommender: Recommender, vocabulary: Vocabulary, histories: Sequence[History]) -> list[Probe]:
    """Return a probe of each of up to :data:`PROBES` histories, spread evenly over those given."""
    places = np.unique(np.linspace(0, len(histories) - 1, min(PROBES, len(histories))).astype(int)).tolist()
    probed = [histories[place] for place in places]
    ids = vocabulary.ids
    return [
        Probe(
            history=tuple(
                GivenEvent(item_id=ids[item], timestamp=at)
                for item, at in zip(history.items.tolist(), history.timestamps.tolist(), strict=True)
            ),
            expected=tuple(ids[item] for item in slate.items.tolist()),
            scores=tuple(round(score, 4) for score in slate.scores.tolist()),
        )
        for history, slate in zip(probed, recommender.recommend(requests_for(probed, n=SLATE)), strict=True)
    ]


def agreement(recommender: Recommender, vocabulary: Vocabulary, probes: Sequence[Probe]) -> float:
    """Ask the probes again and return the share of expected items that are in the slates; 1 where nothing is expected.

    Raises:
        CallError: a time in a probe is no unix second.
    """
    histories = [vocabulary.history(probe.history).history for probe in probes]
    slates = recommender.recommend(requests_for(histories, n=SLATE))
    wanted = [set(vocabulary.find(probe.expected).rows_V.tolist()) for probe in probes]
    expected = sum(len(items) for items in wanted)
    found = sum(len(items & set(slate.items.tolist())) for items, slate in zip(wanted, slates, strict=True))
    return found / expected if expected else 1.0


def save_probes(probes: Sequence[Probe], folder: Path) -> None:
    """Write ``probes.json`` into a folder."""
    write_json(folder / _FILE, [asdict(probe) for probe in probes])


def load_probes(folder: Path) -> list[Probe]:
    """Read what :func:`save_probes` wrote.

    Raises:
        ArtifactError: there is nothing, or it is no probe set.
    """
    path = require(folder / _FILE, remedy="make the bundle again")
    try:
        return [
            Probe(
                history=tuple(GivenEvent(**event) for event in row["history"]),
                expected=tuple(row["expected"]),
                scores=tuple(row["scores"]),
            )
            for row in json.loads(path.read_text(encoding="utf-8"))
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} must be a list of probes, got {error!r}; make the bundle again") from error
