"""A replay in a terminal: slices, differences, time, cost, and what off-policy estimates can and cannot say."""

from collections.abc import Iterator
from datetime import UTC, datetime

from rich.box import SIMPLE
from rich.table import Table

from pipelines.show import console, share
from recsys.evaluation.replay_results import Replay, ShownRanking
from recsys.evaluation.results import Estimate


def print_replay(result: Replay) -> None:
    """Print a replay's tables and what its figures can't say."""
    for table in tables(result):
        console().print(table)
    for test in result.ab:
        console().print(
            f"A/B: {test.verdict}. {test.treatment} minus {test.control}: {interval(test.difference)} a user; "
            f"{test.users_treatment:,} and {test.users_control:,} users, {test.crossed_users:,} in both left out.",
            highlight=False,
        )
    counted = ", ".join(f"{count:,} {name}" for name, count in result.counts.items())
    console().print(f"Events: {counted}.", highlight=False)
    if result.note:
        console().print(result.note, highlight=False)


def tables(result: Replay) -> Iterator[Table]:
    """Yield the tables of a replay that have rows."""
    if result.rows:
        yield slice_table(result)
    if result.paired:
        yield paired_table(result)
    if result.over_time:
        yield time_table(result)
    if result.costs:
        yield cost_table(result)
    if result.shown:
        yield shown_table(result.log, result.shown)
    if result.off_policy:
        yield off_policy_table(result)


def slice_table(result: Replay) -> Table:
    """Lay the figures of each slice out, with the events it holds."""
    names = sorted({name for row in result.rows for name in row.figures})
    table = _table(f"{result.log}: replay in time order, {result.split}", ("slice", "events", "recommender", *names))
    for group, events in result.events.items():
        for row in (row for row in result.rows if row.slice == group):
            cells = [interval(row.figures[name]) for name in names]
            table.add_row(group, f"{events:,}", row.recommender, *cells)
    return table


def paired_table(result: Replay) -> Table:
    """Lay out by how much ours differs from each other recommender on the same events."""
    names = sorted({name for row in result.paired for name in row.difference})
    table = _table(f"{result.paired[0].recommender} minus", ("compared with", "slice", *names))
    for row in result.paired:
        table.add_row(row.compared_with, row.group, *(interval(row.difference[name]) for name in names))
    return table


def time_table(result: Replay) -> Table:
    """Lay the first metric out period by period, one column a recommender."""
    recommenders = list(dict.fromkeys(row.recommender for row in result.over_time))
    name = sorted(result.over_time[0].figures)[0]
    table = _table(f"{name} over time", ("from", "to", "events", *recommenders))
    for first in (row for row in result.over_time if row.recommender == recommenders[0]):
        same = {row.recommender: row.figures[name].value for row in result.over_time if row.start == first.start}
        cells = [share(same[recommender]) for recommender in recommenders]
        table.add_row(_day(first.start), _day(first.end), f"{first.events:,}", *cells)
    return table


def cost_table(result: Replay) -> Table:
    """Lay out what a request took."""
    table = _table("milliseconds a request", ("recommender", "requests", "mean", "p50", "p99"))
    for row in result.costs:
        figures = (row.milliseconds, row.milliseconds_p50, row.milliseconds_p99)
        table.add_row(row.recommender, f"{row.requests:,}", *(f"{figure:.2f}" for figure in figures))
    return table


def shown_table(log: str, shown: ShownRanking) -> Table:
    """Lay out how each recommender ranks what the log showed, by kinds of users."""
    names = list(shown.rows[0].figures)
    title = f"{log}: ranking what was shown, taken against passed over, {shown.items:,} items"
    table = _table(title, ("users", "groups", "recommender", *names))
    for kind, groups in shown.groups.items():
        for row in (row for row in shown.rows if row.slice == kind):
            table.add_row(kind, f"{groups:,}", row.recommender, *(interval(row.figures[name]) for name in names))
    return table


def off_policy_table(result: Replay) -> Table:
    """Lay out what each policy would have earned; where the log can't decide, the reason stands in its place."""
    table = _table(
        f"off-policy estimates, logged by {result.off_policy[0].logging}",
        ("target", "estimator", "value", "effective", "clipped"),
    )
    for row in result.off_policy:
        if row.refusal:
            table.add_row(row.target, row.estimator, row.refusal, f"{row.effective_sample_size:,.0f}", "")
            continue
        value = interval(row.estimate) + (" (biased)" if row.biased else "")
        table.add_row(row.target, row.estimator, value, f"{row.effective_sample_size:,.0f}", f"{row.clipped_share:.1%}")
    return table


def interval(estimate: Estimate) -> str:
    """Write an estimate with its interval, e.g. ``.0352 (.0310 to .0394)``."""
    return f"{share(estimate.value)} ({share(estimate.low)} to {share(estimate.high)})"


def _table(title: str, headings: tuple[str, ...]) -> Table:
    table = Table(title=title, box=SIMPLE)
    for heading in headings:
        table.add_column(heading)
    return table


def _day(moment: int) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}"
