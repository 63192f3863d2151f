"""Benches as Markdown."""

from pipelines.benches.measure import Bench, Line, Machine
from pipelines.tables import bench_markdown

HERE = Machine(cores=2, processor="x86_64", system="Linux", python="3.11", torch="2.13", recsys="0.2")


def test_bench_markdown_when_there_are_peers_then_names_them_and_the_machine() -> None:
    lines = (
        Line(what="a", ours=0.25, peer=0.5, peer_name="frozen", unit="NDCG@10", ratio=2, ratio_low=1.5, ratio_high=3),
        Line(what="b", ours=1200, unit="s"),
    )
    assert bench_markdown(Bench(name="days", machine=HERE, rows=lines)).splitlines() == [
        "`bench days` on 2 cores, x86_64, torch 2.13; peer: frozen.",
        "",
        "| what | unit | ours | peer | peer / ours |",
        "|---|---|---:|---:|---:|",
        "| a | NDCG@10 | 0.2500 | 0.5000 | 2.00 (1.50-3.00) |",
        "| b | s | 1200.00 |  |  |",
    ]
