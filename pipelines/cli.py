"""The command line: short verbs, frozen by a test; knobs live in the recipe. Imports are lazy so help is instant."""

import io
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli_decide import VERBS
from pipelines.cli_files import recipe_of, write_result
from pipelines.cli_measure import bench
from pipelines.cli_options import AllowUnmatched, Check, Columns, Format, JsonFile, NoRay, Run, Sets, TimeUnit
from recsys.core.errors import CallError, RecsysError
from recsys.core.telemetry import LOG, configure_logging

app = typer.Typer(
    help="From a log of interactions to ranked items, by reasoning over item tokens in a free order.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def demo(
    to: Annotated[Path, typer.Option(help="Where data and the run go.")] = Path("runs/demo"),
    recipe: Annotated[str, typer.Option(help="A recipe's name or file.")] = "demo",
    no_ray: NoRay = False,
) -> None:
    """Train every stage on MovieLens-100K and print recommendations with their reasoning paths."""
    from pipelines.demo import run_demo

    run_demo(to, recipe, use_ray=not no_ray)


@app.command()
def fetch(name: str, to: Annotated[Path, typer.Option(help="Folder to write.")]) -> None:
    """Fetch a data set whose source is known: ml-100k, open-bandit, synthetic."""
    from recsys.core.writable import require_writable_folder
    from recsys.data.fetch import fetch as fetch_dataset

    require_writable_folder(to)
    typer.echo(fetch_dataset(name, to))


@app.command("import")
def import_(  # noqa: PLR0913 (its options are the call)
    format: Format,
    source: Path,
    to: Annotated[Path | None, typer.Option(help="Folder to write.")] = None,
    columns: Columns = None,
    time_unit: TimeUnit = None,
    allow_unmatched: AllowUnmatched = False,
    check: Check = False,
) -> None:
    """Bring a data set into the data contract; what is understood is shown, bad rows are counted by cause."""
    from pipelines.importing import required_target, run_import
    from recsys.data.importers.headers import parse_map
    from recsys.data.options import ImportOptions

    options = ImportOptions(columns=parse_map(columns or []), time_unit=time_unit, allow_unmatched=allow_unmatched)
    for line in run_import(format, source, required_target(to, check=check), options):
        typer.echo(line)


@app.command()
def train(  # noqa: PLR0913 (its options are the call)
    data: Annotated[Path, typer.Argument(help="A folder in the data contract.")],
    to: Annotated[Path, typer.Option(help="The run folder.")],
    recipe: Annotated[str, typer.Option(help="A recipe's name or a TOML file.")] = "default",
    sets: Sets = None,
    resume: Annotated[bool, typer.Option("--resume/--fresh", help="Go on from checkpoints, or forget them.")] = True,
    no_ray: NoRay = False,
    quick: Annotated[bool, typer.Option(help="A first answer in about a minute: less of everything.")] = False,
) -> None:
    """Train on a log: tokenizer, generator, alignment, baselines, bundle, evaluation. Unchanged stages are kept."""
    from pipelines.flow import train as run_flow
    from pipelines.recipe import load_recipe
    from pipelines.record import read_records
    from pipelines.show import console, evaluation_table, stage_table
    from pipelines.sizing import sized_for
    from pipelines.store import RunStore
    from pipelines.study import run_study

    settings = sized_for(data, load_recipe(recipe, tuple(sets or ())), quick=quick)
    work = run_study if settings.study.seeds or settings.study.ablations else run_flow
    result = work(data, to, settings, use_ray=not no_ray, fresh=not resume)
    store = RunStore.of(to)
    console().print(stage_table(read_records(to if store is None else store.working)))
    console().print(evaluation_table(result))


@app.command()
def recommend(  # noqa: PLR0913 (its options are the call)
    run: Run,
    history: Annotated[
        str | None, typer.Option(help="Item ids, oldest first, separated by commas; id@1700000000 says when (unix).")
    ] = None,
    users: Annotated[
        str | None,
        typer.Option(help="Batch: a Parquet or CSV file with a user_id column, a folder of such files, or all."),
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Batch: the folder to write; a killed job goes on there.")] = None,
    n: Annotated[int, typer.Option(min=1, help="How many items.")] = 10,
    at: Annotated[int | None, typer.Option(help="The unix second at which events without a time count; now.")] = None,
    explain: Annotated[bool, typer.Option(help="With --json: write paths, too; the table always has them.")] = False,
    by: Annotated[
        str,
        typer.Option(help="served; paths: token paths propose, all evidence ranks; catalogue: all items; head: alone."),
    ] = "served",
    shard: Annotated[str, typer.Option(help="Batch: answer share I of N only, 0/N to N-1/N, for schedulers.")] = "0/1",
    no_ray: Annotated[bool, typer.Option("--no-ray", help="Batch: answer every part in this process.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Recommend for one history, or for a file of users or all users into a folder (user_id, rank, item_id, score)."""
    from pipelines.batch.call import BatchCall, Shard
    from pipelines.batch.job import recommend_batch
    from pipelines.recommend import recommend_one
    from pipelines.show import console

    if (history is None) == (users is None):
        raise CallError(
            "recommend needs either --history ID,ID,... or --users FILE|all --to FOLDER, got both or neither"
        )
    if history is not None:
        recommended = recommend_one(run, history, n=n, moment=at, by=by)
        console().print(recommended.table())
        write_result(json_file, recommended.to_json(explain=explain))
        return
    if users is None or to is None:
        raise CallError("--users needs --to FOLDER for the result")
    users_file = None if users == "all" else Path(users)
    report = recommend_batch(
        BatchCall(run=run, users=users_file, to=to, n=n, shard=Shard.parse(shard)), use_ray=not no_ray
    )
    typer.echo(report.sentence(to))
    write_result(json_file, report.to_json())


@app.command()
def serve(  # noqa: PLR0913 (its options are the call)
    run: Run,
    host: str = "127.0.0.1",
    port: int = 8080,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the port and the store.")] = 1,
    ray: Annotated[bool, typer.Option("--ray", help="Replicas on Ray Serve; --workers is the least number.")] = False,
    store: Annotated[str | None, typer.Option(help="SQLAlchemy URL of the store; its password may come apart.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file of limits and deadlines; see docs/serving.md.")
    ] = None,
) -> None:
    """Serve a run over HTTP: recommendations, events, health, metrics and a console at /."""
    from serving.process import Options
    from serving.process import serve as run_server
    from serving.ray_serve import serve_on_ray
    from serving.settings import environment_keys, read_config

    settings = read_config(config)
    options = Options(
        run=run, host=host, port=port, store=store, keys=environment_keys(), config=settings, workers=workers
    )
    (serve_on_ray if ray else run_server)(options)


@app.command()
def export(
    store: Annotated[str, typer.Option(help="SQLAlchemy URL of a service's store.")],
    to: Annotated[Path, typer.Option(help="Folder to write.")],
    run: Annotated[Path | None, typer.Option(help="A run whose bundle holds the items of training.")] = None,
) -> None:
    """Write events, items and exposures of a service as a data set, which training and replay read."""
    from serving.export import export_store

    found = export_store(store, to, run=run)
    typer.echo(f"{found.events:,} events, {found.items:,} items, {found.exposures:,} exposures written to {to}")


@app.command()
def update(  # noqa: PLR0913 (its options are the call)
    run: Run,
    events: Annotated[Path, typer.Option(help="A folder in the data contract: a day's events, and its new items.")],
    to: Annotated[Path | None, typer.Option(help="The new run's folder; beside RUN, named by the day.")] = None,
    into: Annotated[
        Path | None, typer.Option(help="Also publish among the releases of this run, if the gate lets it pass.")
    ] = None,
    refresh_codebooks: Annotated[
        bool, typer.Option("--refresh-codebooks", help="Fit the codebooks anew and number their codes by the old ones.")
    ] = False,
    no_ray: NoRay = False,
    json_file: JsonFile = None,
) -> None:
    """Go on from a run with a new day: new items get tokens, models warm-start, drift is reported; RUN stays."""
    from pipelines.publish import publish_run
    from pipelines.show import console, evaluation_table
    from pipelines.update.flow import update_run

    result = update_run(run, events, to, use_ray=not no_ray, refresh_codebooks=refresh_codebooks)
    console().print(evaluation_table(result.evaluation))
    typer.echo(result.sentence)
    write_result(json_file, result.day.to_json())
    if into is not None:
        typer.echo(publish_run(result.run, recipe_of(result.run), into=into).words)


for verb in (*VERBS, bench):
    app.command()(verb)


def main() -> None:
    """Run the command line; errors raised on purpose end as one line on standard error and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 shows ? for what it lacks
    configure_logging()
    try:
        app()
    except RecsysError as error:
        LOG.error("recsys: %s", error)
        sys.exit(error.exit_code)
    except OSError as error:
        LOG.error("recsys: a file or folder cannot be used: %s", error)
        sys.exit(1)
