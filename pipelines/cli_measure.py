"""The verb that measures. Imports are lazy so that help is instant."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli_files import write_result
from pipelines.cli_options import JsonFile, Markdown, Sets

NAMES = (
    *(
        "encode",
        "decode",
        "train",
        "tokens",
        "codes",
        "cold",
        "batch",
        "batch-memory",
        "scale",
        "ladq",
        "pruning",
        "days",
        "gpu",
    ),
    *("serve", "soak", "curves", "evidence", "valid", "off-policy"),
)


def bench(  # noqa: PLR0913 (its options are the call)
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(NAMES)}.")],
    run: Annotated[Path | None, typer.Option(help="The run to measure.")] = None,
    size: Annotated[
        str | None,
        typer.Option(help="Of scale's log: users,events,items; a tenth of it runs first. Of batch: items,users asked."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The data set that days or gpu trains on.")] = None,
    recipe: Annotated[str, typer.Option(help="How days trains: a shipped recipe's name, or a TOML file.")] = "default",
    sets: Sets = None,
    every: Annotated[int, typer.Option(min=1, help="Days from one full training of days to the next.")] = 1,
    length: Annotated[int, typer.Option(min=1, help="Days of the log that make one day of days.")] = 1,
    to: Annotated[
        Path | None, typer.Option(help="Folder for what days and scale make: killed, they go on there.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=1, help="Of soak; ten minutes unless said.")] = None,
    json_file: JsonFile = None,
    markdown: Markdown = None,
) -> None:
    """Measure ours beside a peer, in one run, on this machine.

    Encode tokenizes a million items, decode asks for one user, train counts positions a second, tokens sums logits of
    codes, scale takes a made-up log from its files to training steps; valid checks the validity index against a slow
    way, and a hundred thousand of the service's slates under random rules, filters and steering.
    batch counts users a second in one process, in two and on Ray; batch-memory measures memory by number of users.
    codes (needs --run) compares tokenizers by a short token model, cold how it ranks items without training events.
    curves (needs --run) says what more paths and stricter pruning give and cost; `recsys report` draws them.
    evidence (needs --run) says what each source of the ranking is worth, by leaving it out and by itself.
    serve (needs --run) measures the HTTP service beside one that ranks by a dot product and does nothing else.
    soak (needs --run) loads the service while clients misbehave, releases swap and items change: memory, failures, p99.
    ladq (needs --run) trains with precision chosen by layer beside fp32 and bf16, over three seeds.
    days (needs --data) ranks for the last five days by a model left as it was, one updated daily and one retrained
    every --every days; --set changes its recipe, and where a log has few events a day, --length takes several as one.
    pruning (needs --run) trains on parts of the run's log, with and without the run's model as a teacher.
    gpu trains, decodes and encodes on a CUDA device beside the CPU; without one it says so and ends.
    off-policy tries every estimator in worlds whose truth is known: bias, spread and how often intervals cover it.
    """
    from pipelines.benches.run import BenchCall, run_bench
    from pipelines.show import bench_table, console
    from pipelines.tables import bench_markdown, rewrite_table

    call = BenchCall(
        run=run,
        size=size,
        data=data,
        recipe=recipe,
        overrides=tuple(sets or ()),
        every=every,
        length=length,
        to=to,
        seconds=seconds,
    )
    result = run_bench(name, call)
    console().print(bench_table(result))
    write_result(json_file, result.to_json())
    if markdown is not None:
        measured = run or data
        rewrite_table(
            markdown, f"bench-{name}" + (f"-{measured.resolve().name}" if measured else ""), bench_markdown(result)
        )
