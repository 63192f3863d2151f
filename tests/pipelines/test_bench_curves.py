"""The points of the bench of paths, and the form of its table."""

import pytest

from pipelines.benches.curves import SHOWN, CurvePoint
from pipelines.benches.measure import Line, as_result
from pipelines.tables import bench_markdown


def test_point_when_read_from_what_it_wrote_then_it_is_the_same_and_figures_it_lacks_stay_away() -> None:
    generator = CurvePoint(by="theta", at=0.5, theta=None, paths=16, figures={"ndcg@10": 0.25, "milliseconds": 2.0})
    assert generator.to_json().keys() & SHOWN.keys() == {"ndcg@10", "milliseconds"}
    whole = CurvePoint(by="beam", at=4, theta=None, paths=4, figures=dict.fromkeys(SHOWN, 0.5))
    for point in (generator, whole):
        assert CurvePoint.from_json(point.to_json()) == point


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
