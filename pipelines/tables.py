"""Results as Markdown, written between markers by a command and never by hand."""

from collections.abc import Sequence
from pathlib import Path

from pipelines.benches.measure import Bench
from pipelines.show import bench_row, share, shown_figure
from recsys.core.errors import CallError
from recsys.evaluation.results import METRICS, Estimate, Evaluation, EvaluationRow

HEADINGS = ("recommender", "seen", "R@5", "N@5", "R@10", "N@10", "R@10, 95 %", "ours - theirs, N@10")
BEYOND = {
    "coverage": "coverage",
    "popularity": "popularity",
    "diversity": "diversity",
    "cold_recall@10": "cold R@10",
    "rare_recall@10": "rare R@10",
    "milliseconds_a_user": "ms a user",
    "train_seconds": "trained, s",
    "peak_memory_mb": "memory, MiB",
}


def rewrite_table(path: Path, name: str, table: str) -> None:
    """Put a Markdown table between ``<!-- table:NAME -->`` and ``<!-- end -->`` in a file.

    Raises:
        CallError: the file lacks the markers.
    """
    begin, end = f"<!-- table:{name} -->", "<!-- end -->"
    text = path.read_text() if path.exists() else ""
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise CallError(f"{path} must hold the lines {begin} and {end}, got neither or one; write them where it goes")
    path.write_text(f"{head}{begin}\n{table}\n{end}{tail}")


def markdown_table(result: Evaluation) -> str:
    """Return an evaluation or a study as two Markdown tables under a line that says how it was evaluated."""
    seeds = result.seeds
    spread = f"mean over {len(seeds)} seeds, \u00b1 their standard deviation" if len(seeds) > 1 else f"seed {seeds[0]}"
    sizes = f"{result.users:,} users, {result.items:,} items"
    against = {(row.compared_with, row.group): row.difference["ndcg@10"] for row in result.paired}
    rows = sorted(result.rows, key=lambda row: row.seen, reverse=True)
    accuracy = [
        [
            _name(row, len(seeds)),
            row.seen,
            *(_with_spread(row, metric) for metric in METRICS),
            _between(row.accuracy["recall@10"]),
            _paired(against.get((row.recommender, row.seen))),
        ]
        for row in rows
    ]
    beyond = [[_name(row, len(seeds)), *(_beyond(row, key) for key in BEYOND)] for row in rows if row.seen == "removed"]
    return "\n".join(
        [
            f"{result.dataset}: {sizes}, {_protocol_of(result)}, full ranking, {spread}.",
            "",
            *grid(HEADINGS, accuracy, texts=2),
            "",
            "Beyond accuracy, seen items removed:",
            "",
            *grid(("recommender", *BEYOND.values()), beyond, texts=1),
        ]
    )


def bench_markdown(result: Bench) -> str:
    """Return a bench as a Markdown table under a line that names its peers and the machine."""
    peers = " or ".join(dict.fromkeys(line.peer_name for line in result.rows if line.peer_name))
    machine = result.machine
    by_what = all(line.figure for line in result.rows)
    rows = [(what, unit, ours, peer, ratio) for what, ours, peer, unit, ratio in map(bench_row, result.rows)]
    on = f"{machine.cores} cores, {machine.processor}, torch {machine.torch}"
    return "\n".join(
        [
            f"`bench {result.name}` on {on}"
            + (f", {machine.accelerator}" if machine.accelerator else "")
            + (f"; peer: {peers}." if peers else "."),
            "",
            *(_by_what(result) if by_what else grid(("what", "unit", "ours", "peer", "peer / ours"), rows, texts=2)),
        ]
    )


def _by_what(result: Bench) -> list[str]:
    """Return a table with a row for everything that was measured and a column for each of its figures."""
    figures = list(dict.fromkeys(line.figure for line in result.rows))
    rows: dict[str, dict[str, str]] = {}
    for line in result.rows:
        rows.setdefault(line.what, {})[line.figure] = shown_figure(line.ours)
    return grid(
        ("what", *figures), [(what, *(row.get(name, "") for name in figures)) for what, row in rows.items()], texts=1
    )


def _protocol_of(result: Evaluation) -> str:
    """Return the split, and how the log was divided where that is not leave-one-out."""
    return result.split if result.protocol == "leave-one-out" else f"{result.protocol}, {result.split}"


def grid(headings: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int) -> list[str]:
    """Return the lines of a Markdown table whose first columns are text and whose others are numbers."""
    ruler = "|" + "---|" * texts + "---:|" * (len(headings) - texts)
    return ["| " + " | ".join(headings) + " |", ruler, *("| " + " | ".join(row) + " |" for row in rows)]


def _name(row: EvaluationRow, seeds: int) -> str:
    name = f"**{row.recommender}**" if row.recommender == "recsys" else row.recommender
    return name if row.runs == seeds else f"{name} ({row.runs} of {seeds} seeds)"


def _beyond(row: EvaluationRow, key: str) -> str:
    value = row.measures.get(key)
    if value is None:
        return ""
    if key == "milliseconds_a_user":
        return f"{value:.1f}"
    if key.endswith("recall@10"):
        return share(value)
    return f"{value:.0f}" if key in ("train_seconds", "peak_memory_mb") else share(value, 3)


def _with_spread(row: EvaluationRow, metric: str) -> str:
    deviation = row.deviation.get(metric)
    return share(row.accuracy[metric].value) + (f" \u00b1 {share(deviation)}" if deviation is not None else "")


def _between(estimate: Estimate) -> str:
    return f"{share(estimate.low)} to {share(estimate.high)}"


def _paired(difference: Estimate | None) -> str:
    return "" if difference is None else f"{share(difference.value)} ({_between(difference)})"
