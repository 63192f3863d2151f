"""Options of the command line that are shared or long; imports are lazy so that help is instant."""

from pathlib import Path
from typing import Annotated

import typer


def _checked_file(path: Path | None) -> Path | None:
    from recsys.core.writable import require_writable_file

    return None if path is None else require_writable_file(path)


def _on_this_machine(context: typer.Context, run: Path) -> Path:
    """Return a run's folder; one at a URL is fetched, and what the verb reports is pushed when it ends."""
    if ":/" not in str(run):
        return run
    from pipelines.store import RunStore

    store = RunStore.of(run)
    if store is None:
        return run
    folder = store.begin()
    context.call_on_close(store.push_reports)
    return folder


Run = Annotated[
    Path, typer.Argument(help="A run folder, made by `recsys train`, or its URL.", callback=_on_this_machine)
]
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", help="Also write the results here, machine-readable.", callback=_checked_file),
]
Markdown = Annotated[
    Path | None, typer.Option(help="Also rewrite this run's table in a Markdown file, between its markers.")
]
NoRay = Annotated[bool, typer.Option("--no-ray", help="Run every stage in this process.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="Change one setting: section.key=value. Repeatable.")]
Format = Annotated[
    str, typer.Argument(help="auto, csv, parquet, jsonl, movielens, amazon-reviews, kuairand, open-bandit or coat.")
]
Columns = Annotated[
    list[str] | None, typer.Option("--map", help="Name a column: item_id=sku, or item_id=2 without a header.")
]
TimeUnit = Annotated[
    str | None,
    typer.Option(help="Read times as s, ms, us, ns, days, excel, yyyymmdd, iso, dmy or mdy; else recognised."),
]
AllowUnmatched = Annotated[bool, typer.Option(help="Go on when more than half of the log's items have no metadata.")]
Check = Annotated[bool, typer.Option(help="Read and say what is understood; write nothing.")]
