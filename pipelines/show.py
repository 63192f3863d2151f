"""What people see in a terminal: the evaluation table, and recommendations with their paths in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from pipelines.benches.measure import Bench, Line
from pipelines.record import StageRecord
from recsys.codes.catalogue import Catalogue
from recsys.codes.words import path_words
from recsys.contracts import Path, Slate
from recsys.evaluation.results import METRICS, Evaluation


def evaluation_table(result: Evaluation) -> Table:
    """Lay an evaluation out as a table of 80 columns: Recall and NDCG at 5 and 10, Recall@10's bootstrap interval."""
    task = f"{result.protocol}, {result.split}"
    title = f"{result.dataset}: {task}, {result.users:,} users, {result.items:,} items, full ranking"
    table = Table(title=title, box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("recommender", max_width=16)
    table.add_column("seen", no_wrap=True)
    for heading in ("R@5", "N@5", "R@10", "N@10", "R@10 95 %", "trained"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in result.rows:
        recall = row.accuracy["recall@10"]
        table.add_row(
            row.recommender,
            row.seen,
            *(share(row.accuracy[metric].value) for metric in METRICS),
            f"{share(recall.low, 3)}-{share(recall.high, 3)}",
            f"{row.cost.train_seconds:.0f} s" if row.cost else "",
            style="bold" if row.recommender == "recsys" else None,
        )
    return table


def share(value: float, digits: int = 4) -> str:
    """Write a share without the zero before its point, e.g. .0352, so that tables stay narrow."""
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def stage_table(records: Mapping[str, StageRecord]) -> Table:
    """Lay out what each stage of a run took when it ran: seconds, processor seconds and its peak of memory."""
    table = Table(title="what the stages took when they ran", box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("stage")
    for heading in ("seconds", "processor seconds", "peak memory, MiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, record in records.items():
        table.add_row(name, f"{record.seconds:,.1f}", f"{record.cpu_seconds:,.1f}", f"{record.peak_memory_mb:,}")
    seconds, worked = (sum(getattr(one, what) for one in records.values()) for what in ("seconds", "cpu_seconds"))
    peak = max((record.peak_memory_mb for record in records.values()), default=0)
    table.add_row("together", f"{seconds:,.1f}", f"{worked:,.1f}", f"{peak:,}", style="bold")
    return table


def bench_table(result: Bench) -> Table:
    """Lay a bench out as a table; a ratio above one means that ours takes less."""
    peers = " or ".join(dict.fromkeys(line.peer_name for line in result.rows if line.peer_name))
    title = f"bench {result.name} on {result.machine.cores} cores"
    if result.machine.accelerator:
        title += f" and {result.machine.accelerator}"
    table = Table(title=title, caption=f"peer: {peers}" if peers else None, box=SIMPLE)
    table.add_column("what")
    for heading in ("ours", "peer", "unit", "peer / ours"):
        table.add_column(heading, justify="left" if heading == "unit" else "right", no_wrap=True)
    for line in result.rows:
        table.add_row(*bench_row(line))
    return table


def bench_row(line: Line) -> tuple[str, str, str, str, str]:
    """Return what was measured, ours, the peer's, their unit, and the ratio with its interval."""
    ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
    if line.ratio_low is not None and line.ratio_high is not None:
        ratio += f" ({line.ratio_low:.2f}-{line.ratio_high:.2f})"
    what = f"{line.what}, {line.figure}" if line.figure else line.what
    return what, shown_figure(line.ours), "" if line.peer is None else shown_figure(line.peer), line.unit, ratio


def shown_figure(value: float) -> str:
    """Return a figure with two decimals, or four where it is below one."""
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.4f}"


def path_json(path: Path, catalogue: Catalogue) -> dict[str, Any]:
    """Return a path with the keys that programs rely on."""
    steps = [
        {
            "codebook": step.codebook,
            "code": step.code,
            "facet": catalogue.facets.get((step.codebook, step.code), ""),
            "confidence": round(step.confidence, 4),
        }
        for step in path.steps
    ]
    return {"steps": steps, "pruned": path.pruned}


def slate_json(slate: Slate, catalogue: Catalogue, *, explain: bool) -> list[dict[str, Any]]:
    """Return a slate with the keys that programs rely on."""
    items = []
    for rank, (item, score) in enumerate(zip(slate.items, slate.scores, strict=True)):
        paths = slate.paths[rank] if explain and slate.paths else ()
        items.append(
            {
                "item_id": catalogue.item_ids[int(item)],
                "score": round(float(score), 5),
                "paths": [path_json(path, catalogue) for path in paths],
            }
        )
    return items


def slate_table(slate: Slate, catalogue: Catalogue, titles: Sequence[str], *, caption: str = "") -> Table:
    """Lay a slate out with titles and the best path to each item in words."""
    table = Table(title=caption or None, box=SIMPLE)
    table.add_column("#", justify="right")
    table.add_column("item")
    table.add_column("score", justify="right")
    table.add_column("reasoning path")
    for rank, (item, score) in enumerate(zip(slate.items, slate.scores, strict=True)):
        paths = slate.paths[rank] if slate.paths else ()
        words = path_words(catalogue.facets, paths[0]) if paths else "(by the item head alone)"
        table.add_row(str(rank + 1), titles[int(item)], f"{score:.3f}", words)
    return table


def console() -> Console:
    """Return the console that results are printed on."""
    return Console()
