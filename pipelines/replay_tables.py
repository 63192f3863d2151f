"""A replay as Markdown: all events, slices, what was shown, and off-policy estimates, for the README and the docs."""

from collections.abc import Sequence
from datetime import UTC, datetime

from pipelines.show import share
from pipelines.show_replay import interval
from pipelines.tables import grid
from recsys.evaluation.replay_results import OffPolicyRow, Replay, ReplayRow, ShownRanking
from recsys.evaluation.results import Estimate


def replay_markdown(result: Replay) -> str:
    """Return a replay as Markdown tables under a line that says how the log was divided and how much was replayed."""
    head = f"{result.log}: replay in time order, {result.split}{_counts_of(result)}."
    parts = [[head], _overall(result), _slices(result), _shown(result.shown), _off_policy(result)]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _counts_of(result: Replay) -> str:
    if not result.counts.get("asked"):
        return ""
    days = (datetime.fromtimestamp(moment, UTC) for row in result.over_time for moment in (row.start, row.end))
    between = sorted(f"{day:%Y-%m-%d}" for day in days)
    when = f" from {between[0]} to {between[-1]}" if between else ""
    return f"; {result.counts['asked']:,} events asked{when}"


def _overall(result: Replay) -> list[str]:
    """Return every recommender's figures on all events, and ours minus theirs."""
    rows = [row for row in result.rows if row.slice == "all"]
    if not rows:
        return []
    names = sorted(rows[0].figures, reverse=True)
    against = {row.compared_with: row.difference for row in result.paired if row.group == "all"}
    took = {row.recommender: row.milliseconds for row in result.costs}
    ours, last = rows[-1].recommender, names[-1]
    lines = [
        [
            _bold(row.recommender, row.recommender == ours),
            *(interval(row.figures[name]) for name in names),
            interval(against[row.recommender][last]) if row.recommender in against else "",
            f"{took[row.recommender]:.1f}" if row.recommender in took else "",
        ]
        for row in rows
    ]
    headings = ("recommender", *(f"{name}, 95 %" for name in names), f"ours - theirs, {last}", "ms a request")
    return grid(headings, lines, texts=1)


def _slices(result: Replay) -> list[str]:
    """Return one figure of every recommender by slice; beside ours its interval and what it is above the best rival."""
    names = list(dict.fromkeys(row.recommender for row in result.rows))
    groups = [group for group in result.events if group != "all"]
    if not groups or not names:
        return []
    rows = {(row.recommender, row.slice): row for row in result.rows}
    metric = min(rows[names[0], "all"].figures)
    ours, rivals = names[-1], names[:-1]
    best = max(rivals, key=lambda name: rows[name, "all"].figures[metric].value) if rivals else ""
    gained = {row.group: row.difference[metric] for row in result.paired if row.compared_with == best}
    lines = [
        [
            group,
            f"{result.events[group]:,}",
            *(_value(rows[name, group], metric) for name in rivals),
            interval(rows[ours, group].figures[metric]),
            *([interval(gained[group])] if best else []),
        ]
        for group in groups
    ]
    headings = ("slice", "events", *rivals, f"{_bold(ours, True)}, 95 %", *([f"ours - {best}"] if best else []))
    return [f"{metric.replace('ndcg', 'NDCG')} by slice:", "", *grid(headings, lines, texts=1)]


def _shown(shown: ShownRanking | None) -> list[str]:
    """Return how each recommender ranks what the log showed, and ours minus theirs, by kinds of users."""
    if shown is None:
        return []
    names = list(shown.rows[0].figures)
    against = {(row.compared_with, row.group): row.difference[names[0]] for row in shown.paired}
    ours = shown.rows[-1].recommender
    lines = [
        [
            kind,
            f"{groups:,}",
            _bold(row.recommender, row.recommender == ours),
            *(interval(row.figures[name]) for name in names),
            interval(against[row.recommender, kind]) if (row.recommender, kind) in against else "",
        ]
        for kind, groups in shown.groups.items()
        for row in shown.rows
        if row.slice == kind
    ]
    headings = ("users", "groups", "recommender", *(f"{name}, 95 %" for name in names), f"ours - theirs, {names[0]}")
    title = f"Ranking what was shown, {shown.items:,} items, those taken against those passed over:"
    return [title, "", *grid(headings, lines, texts=1)]


def _off_policy(result: Replay) -> list[str]:
    """Return what each policy would have earned, or why the log cannot decide it; refusals are numbered below."""
    if not result.off_policy:
        return []
    reasons = list(dict.fromkeys(row.refusal for row in result.off_policy if row.refusal))
    lines = [
        [row.logging, row.target, row.estimator, _earned(row, reasons), f"{row.effective_sample_size:,.0f}"]
        for row in result.off_policy
    ]
    headings = ("logged by", "target", "estimator", "reward a request, 95 %", "effective requests")
    notes = [f"({place}) {reason}" for place, reason in enumerate(reasons, start=1)]
    return ["Off-policy estimates:", "", *grid(headings, lines, texts=3), *_spaced(notes)]


def _earned(row: OffPolicyRow, reasons: Sequence[str]) -> str:
    if row.refusal:
        return f"not decided ({reasons.index(row.refusal) + 1})"
    return interval(row.estimate) + (" (biased)" if row.biased else "")


def _spaced(notes: Sequence[str]) -> list[str]:
    return [line for note in notes for line in ("", note)]


def _bold(name: str, ours: bool) -> str:
    return f"**{name}**" if ours else name


def _value(row: ReplayRow, metric: str) -> str:
    estimate: Estimate = row.figures[metric]
    return share(estimate.value)
