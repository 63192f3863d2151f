"""Evidence of the bench of paths, and the form of its table."""

from collections.abc import Sequence

import numpy as np
import pytest

from pipelines.benches.curves import KeptEvidence
from pipelines.benches.measure import Line, as_result
from pipelines.tables import bench_markdown
from recsys.contracts import History
from recsys.core.arrays import FloatArray
from recsys.recommender.evidence import Evidence


def _history(*items: int) -> History:
    return History(items=np.array(items, np.int64), timestamps=np.arange(len(items), dtype=np.int64))


def test_kept_evidence_when_asked_again_then_it_says_the_same_and_sources_are_asked_once_a_history() -> None:
    asked: list[int] = []

    def source(histories: Sequence[History]) -> FloatArray:
        asked.append(len(histories))
        return np.array([[one.items.sum(), 1.0] for one in histories], np.float32)

    sources = {"tokens": source, "head": source, "silent": source}
    evidence = Evidence(sources, belief={"tokens": 1.0, "silent": 0.0}, rank={"tokens": 1.0, "head": 2.0})
    kept = KeptEvidence(evidence)
    first, second, third = _history(1), _history(1, 2), _history(3)
    kept.of([first, second])
    belief_BN, rank_BN = kept.of([third, first])
    # two sources have a weight; each was asked about two histories, then about the one that is new
    assert asked == [2, 2, 1, 1]
    # third: items sum to 3, first to 1; three sources' weights add up to 1 + 2 in the ranking
    np.testing.assert_array_equal(belief_BN, [[3, 1], [1, 1]])
    np.testing.assert_array_equal(rank_BN, [[9, 3], [3, 3]])
    for own, plain in zip(kept.of([second]), evidence.of([second]), strict=True):
        np.testing.assert_array_equal(own, plain)


@pytest.mark.parametrize("figure", ["", "ms"])
def test_markdown_when_every_line_names_its_figure_then_a_row_has_all_figures_of_one_thing(figure: str) -> None:
    lines = [
        Line(what="one path", figure="ndcg@10", ours=0.25),
        Line(what="one path", figure=figure, ours=3.0),
        Line(what="two paths", figure="ndcg@10", ours=0.5),
    ]
    table = bench_markdown(as_result("curves", lines)).splitlines()[2:]
    if figure:
        assert table == [
            "| what | ndcg@10 | ms |",
            "|---|---:|---:|",
            "| one path | 0.2500 | 3.00 |",
            "| two paths | 0.5000 |  |",
        ]
    else:  # a line without a figure: a row each, as all other benches have it
        assert len(table) == 2 + 3
