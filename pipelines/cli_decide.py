"""The verbs of those who decide what ships: evaluate, replay, report, publish. Imports are lazy so help is instant."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli_files import recipe_of, write_result
from pipelines.cli_options import JsonFile, Markdown, Run
from recsys.core.errors import CallError


def evaluate(
    run: Run,
    split: Annotated[str, typer.Option(help="test or validation.")] = "test",
    json_file: JsonFile = None,
    markdown: Markdown = None,
) -> None:
    """Evaluate a run by what it held out, with full ranking, beside the baselines; a study over its seeds."""
    from pipelines.flow import evaluate_run
    from pipelines.show import console, evaluation_table
    from pipelines.study import read_study
    from pipelines.tables import markdown_table, rewrite_table

    if split not in ("test", "validation"):
        raise CallError(f"--split must be test or validation, got {split!r}")
    result = read_study(run) if split == "test" else None
    result = result or evaluate_run(run, recipe_of(run), split=split)  # type: ignore[arg-type]
    console().print(evaluation_table(result))
    write_result(json_file, result.to_json())
    if markdown is not None:
        rewrite_table(markdown, run.resolve().name, markdown_table(result))


def replay(  # noqa: PLR0913 (its options are the call)
    run: Run,
    log: Annotated[
        Path | None, typer.Option(help="A folder in the data contract; without it the run's own held-out events.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Also ask this server over HTTP, timing each request.")] = None,
    only: Annotated[
        list[str] | None, typer.Option("--recommender", help="Ask only this recommender of the run. Repeatable.")
    ] = None,
    max_events: Annotated[int, typer.Option(min=0, help="Ask a seeded sample of so many events; 0 asks all.")] = 20_000,
    json_file: JsonFile = None,
    markdown: Markdown = None,
) -> None:
    """Replay a log in time order: what would each recommender have shown before every event?"""
    from pipelines.replay import ReplayCall, replay_run
    from pipelines.replay_tables import replay_markdown
    from pipelines.show_replay import print_replay
    from pipelines.tables import rewrite_table
    from recsys.evaluation.replay import ReplayConfig

    config = ReplayConfig(max_events=max_events or None)
    call = ReplayCall(log=log, url=url, recommenders=tuple(only or ()), config=config)
    result = replay_run(run, recipe_of(run), call)
    print_replay(result)
    write_result(json_file, result.to_json())
    if markdown is not None:
        rewrite_table(markdown, f"{run.resolve().name}-replay", replay_markdown(result))


def report(
    run: Run,
    others: Annotated[
        list[Path] | None, typer.Argument(help="Later runs, oldest first: a page about what changed between them.")
    ] = None,
) -> None:
    """Write one HTML page about a run, or about several side by side: figures, plots, examples; no network needed."""
    from pipelines.report.beside import write_comparison
    from pipelines.report.page import write_report

    typer.echo(write_comparison([run, *others]) if others else write_report(run))


def publish(
    run: Run,
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to the release before.")] = False,
    into: Annotated[
        Path | None, typer.Option(help="Publish among the releases of this run, the one that is served.")
    ] = None,
) -> None:
    """Compare a run with the current release by replay and, if the gate lets it pass, make it current."""
    from pipelines.publish import publish_run, roll_back

    if rollback:
        move = roll_back(into or run)
        typer.echo(f"{move.version} serves again, in place of {move.replaced}")
    else:
        typer.echo(publish_run(run, recipe_of(run), into=into).words)


VERBS = (evaluate, replay, report, publish)
