"""Tests of the page about a run: its figures, that it stands alone, that it bears missing parts, and escaping."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pipelines.benches import curves
from pipelines.benches.curves import BEAMS, CURVES, FEWEST, PERPLEXITIES, QUANTILES, WIDER, bench_curves
from pipelines.benches.measure import as_result
from pipelines.cli import app
from pipelines.report import plots, sections
from pipelines.report.page import example_users, write_report
from pipelines.report.run_files import Missing, made
from pipelines.report.token_experts_section import token_experts
from pipelines.report.tokenizer_sections import facet_sample, tokenizer
from pipelines.report.training_sections import training
from pipelines.tables import bench_markdown
from recsys.core.errors import ArtifactError
from recsys.evaluation.results import Estimate
from recsys.recommender.manifest import read_manifest, write_manifest

PARTS = (
    *(
        "evaluation",
        "replay",
        "training",
        "data-pruning",
        "alignment",
        "curves",
        "token-experts",
        "tokenizer",
        "facets",
    ),
    *("users", "costs"),
)
VOID = {"meta", "link", "br", "hr", "img", "input"}
SVG_EMPTY = {"path", "use", "rect"}


@pytest.fixture(scope="module")
def copy(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, because the session's run must stay as it is; another test may have replayed it."""
    folder = tmp_path_factory.mktemp("report") / "run"
    shutil.copytree(run, folder)
    (folder / "reports" / "replay.json").unlink(missing_ok=True)
    return folder


@pytest.fixture(scope="module")
def page(copy: Path) -> str:
    return write_report(copy).read_text()


class Reader(HTMLParser):
    """Collects where a page would load from, its ids and links, and tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.loads += [values[name] or "" for name in ("src", "srcset", "data", "action", "poster") if name in values]
        if "href" in values:
            (self.links if (values["href"] or "").startswith("#") else self.loads).append(values["href"] or "")
        if "id" in values:
            self.ids.append(values["id"] or "")
        if tag in ("script", "iframe"):
            self.loads.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    return reader


def section(page: str, name: str) -> str:
    return page[page.index(f'<section id="{name}">') :].split("</section>")[0]


def test_page_when_made_then_has_the_evaluations_figures_and_ours_stands_out(page: str, copy: Path) -> None:
    rows = json.loads((copy / "reports" / "evaluation.json").read_text())["rows"]
    shown = section(page, "evaluation")
    assert len(rows) >= 8
    for row in rows:
        for metric in ("recall@5", "ndcg@5", "recall@10", "ndcg@10"):
            assert f"<td>{f'{row[metric]:.4f}'.removeprefix('0')}</td>" in shown
        low, high = row["interval"]["ndcg@10"]
        assert f"[{f'{low:.3f}'.removeprefix('0')}, {f'{high:.3f}'.removeprefix('0')}]" in shown
    assert shown.count('<tr class="ours"><td>recsys</td>') == 2  # once with seen items kept, once with them removed


def test_page_when_made_then_every_part_but_those_of_other_commands_is_there(page: str, copy: Path) -> None:
    assert not (copy / "reports" / "replay.json").exists()
    lacking = {name for name in PARTS if 'class="lacks"' in section(page, name)}
    assert lacking == {"replay", "curves", "data-pruning"}
    assert f"recsys bench curves --run {copy}" in section(page, "curves")
    assert f"recsys bench pruning --run {copy}" in section(page, "data-pruning")
    assert f"recsys replay {copy}" in section(page, "replay")
    report = json.loads((copy / "data" / "report.json").read_text())
    assert all(f"<dd>{report[key]:,}</dd>" in page for key in ("users", "items", "events"))


def test_page_when_made_then_loads_nothing_and_is_well_formed(page: str) -> None:
    reader = read(page)
    assert set(reader.loads) == {"data:,"}  # the empty icon, so that no browser asks for one
    assert "url(http" not in page
    assert "@import" not in page
    assert not re.search(r"https?://", page)
    assert (reader.open, reader.wrong) == ([], [])
    assert {link[1:] for link in reader.links} <= set(reader.ids)
    assert not re.search(r"#0[1-5]0a0[1-5]", page)  # every stand-in colour was replaced


def test_page_when_made_twice_then_the_same_bytes(page: str, copy: Path) -> None:
    assert write_report(copy).read_text() == page


@pytest.mark.parametrize(
    ("gone", "builders"),
    [
        ("reports/evaluation.json", [sections.evaluation]),
        ("model/training.json", [training]),
        ("calibrated/calibration.json", [training]),
        ("aligned/alignment.json", [sections.alignment]),
        ("tokenizer/quality.json", [tokenizer]),
        ("catalog/codes.parquet", [tokenizer, facet_sample]),
        ("bundle/manifest.json", [example_users]),
        ("bundle/model/model.safetensors", [example_users]),
        ("bundle/items.parquet", [example_users]),
        ("data/report.json", [sections.headline]),
        ("data/items.parquet", [facet_sample, example_users]),
        ("manifest.json", [sections.costs]),
    ],
)
def test_part_when_its_file_is_missing_then_the_error_names_it_and_the_remedy(
    copy: Path, tmp_path: Path, gone: str, builders: list
) -> None:
    run = tmp_path / "run"
    shutil.copytree(copy, run, ignore=lambda at, _: {"baselines", "features"} if Path(at) == copy else set())
    (run / gone).unlink()
    for build in builders:
        with pytest.raises(ArtifactError, match=re.escape(gone.split("/")[-1]) + ".*; .*"):
            build(run)


def _points(run: Path, by: str) -> list[dict[str, float]]:
    return [point for point in json.loads((run / CURVES).read_text())["points"] if point["by"] == by]


@pytest.fixture
def few_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "USERS", 40)
    monkeypatch.setattr(curves, "TIMED", 3)


@pytest.mark.usefixtures("few_users")
def test_curves_when_tokens_are_served_then_one_point_a_way_to_search_is_drawn(copy: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(copy, run)
    lines = bench_curves(run)
    assert [point["at"] for point in _points(run, "beam")] == list(WIDER)
    efforts = _points(run, "effort")
    assert [point["at"] for point in efforts] == list(PERPLEXITIES)
    paths = [point["paths"] for point in efforts]
    assert paths == sorted(paths, reverse=True)  # the more perplexity one path stands for, the fewer there are
    assert FEWEST <= paths[-1] <= paths[0] <= WIDER[-1]
    assert len(_points(run, "catalogue")) == len(_points(run, "mean")) == len(_points(run, "weibull")) == 1
    # five figures a point: 8 numbers of paths, 5 efforts, 6 thresholds, 2 rules, the catalogue
    assert len(lines) == 5 * (8 + 5 + 6 + 2 + 1)
    table = bench_markdown(as_result("curves", lines)).splitlines()
    # a line for the machine, an empty one, headings and ruler, then a row for each way to search with its five figures
    assert len(table) == 4 + (8 + 5 + 6 + 2 + 1)
    assert {row.count("|") for row in table[2:]} == {7}
    unpruned = _points(run, "theta")[-1]
    same = next(point for point in _points(run, "beam") if point["at"] == unpruned["paths"])
    assert all(same[key] == unpruned[key] for key in ("ndcg@10", "tokens_ndcg@10"))
    assert len(sections.curves(run).plots) == 6


@pytest.mark.usefixtures("few_users")
def test_curves_when_the_generator_is_served_then_a_point_a_beam_and_a_threshold_is_drawn(
    copy: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(copy, run)
    shutil.rmtree(run / "bundle" / "tokens")
    manifest = read_manifest(run / "bundle")
    write_manifest(run / "bundle", kept=manifest.kept, validation=manifest.validation)
    lines = bench_curves(run)
    assert [point["at"] for point in _points(run, "beam")] == list(BEAMS)
    points = _points(run, "theta")
    assert [point["at"] for point in points] == list(QUANTILES)
    assert points[-1]["theta"] is None  # nothing is pruned at quantile 1
    thetas = [point["theta"] for point in points][:-1]
    assert thetas == sorted(thetas)  # a higher quantile of the same divergences prunes less
    assert len(lines) == 3 * (len(BEAMS) + len(QUANTILES))
    assert all(0 <= point["recall@10"] <= 1 and point["milliseconds"] > 0 for point in points)
    assert len(sections.curves(run).plots) == 4


def test_page_when_only_a_recipe_is_there_then_every_part_says_what_it_lacks(copy: Path, tmp_path: Path) -> None:
    shutil.copy(copy / "recipe.toml", tmp_path)
    page = write_report(tmp_path).read_text()
    assert all('class="lacks"' in section(page, name) for name in PARTS)
    assert "recsys train" in page


def test_page_when_a_json_file_is_broken_then_its_part_says_so(copy: Path, tmp_path: Path) -> None:
    shutil.copy(copy / "recipe.toml", tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "training.json").write_text('{"epochs": [')
    assert "must be JSON" in section(write_report(tmp_path).read_text(), "training")


def test_page_when_titles_and_names_hold_markup_then_escaped(copy: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(copy, run)
    evil = '<script>alert("x")</script>'
    for folder in ("bundle", "data"):
        items = pq.read_table(run / folder / "items.parquet")
        column = items.column_names.index("title")
        pq.write_table(items.set_column(column, "title", pa.array([evil] * len(items))), run / folder / "items.parquet")
    manifest = read_manifest(run / "bundle")
    write_manifest(run / "bundle", kept=manifest.kept, validation=manifest.validation)
    (run / "source.json").write_text(json.dumps({"name": "<b>bold</b>"}))
    page = write_report(run).read_text()
    assert "<script" not in page
    assert "<b>bold</b>" not in page
    assert "&lt;script&gt;" in section(page, "users")
    assert "&lt;script&gt;" in section(page, "facets")


def test_report_when_asked_by_the_command_line_then_prints_the_path(copy: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(copy)])
    assert result.exit_code == 0
    assert result.stdout.strip() == str(copy / "reports" / "report.html")


def test_report_when_the_folder_is_no_run_then_the_error_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="recsys train"):
        write_report(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.toml").touch()
    with pytest.raises(ArtifactError, match="did you mean the folder run in it"):
        write_report(tmp_path)


def test_example_users_when_asked_then_five_with_paths_in_the_catalogues_words(pruned: Path) -> None:
    users = example_users(pruned).users
    words = set(pq.read_table(pruned / "catalog" / "facets.parquet")["words"].to_pylist())
    assert len(users) == len({user.name for user in users}) == 5
    steps = [step for user in users for item in user.items for step in item.steps]
    assert steps
    assert all(step in words or step.startswith("codebook ") for step in steps)
    cut = [path for user in users for path in user.pruned]
    assert all("is low among its history's paths" in path.reason and path.steps for path in cut)
    assert all(len(user.pruned) <= 3 for user in users)
    assert cut  # by the mean rule: of paths that differ some are below the mean


def test_headline_when_rows_were_left_out_then_by_cause(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    report = {"bad_rows": {"no item": 3, "no user": 0}, "rows_read": 10, "users": 1, "items": 2, "events": 5}
    (tmp_path / "data" / "report.json").write_text(json.dumps(report | {"rows_below_min_rating": 2}))
    assert sections.headline(tmp_path).left_out == {"no item": 3, "rated too low": 2}


def test_tokenizer_when_an_older_run_kept_no_information_then_it_is_measured(copy: Path, tmp_path: Path) -> None:
    for name in ("catalog", "tokenizer"):
        shutil.copytree(copy / name, tmp_path / name)
    path = tmp_path / "tokenizer" / "quality.json"
    quality = json.loads(path.read_text())
    kept = quality.pop("mutual_information")
    path.write_text(json.dumps(quality | {"category_agreement": None}))
    made = tokenizer(tmp_path)
    assert made.mutual_mean == pytest.approx(kept["mean"], abs=0.1)  # other shuffles, 120 items
    assert len(made.agreement) == len(quality["codebooks"])


def test_plots_when_names_hold_markup_or_dollars_then_escaped_and_said_as_they_are() -> None:
    drawn = str(plots.intervals([("a<b> $x_1$", Estimate(value=0.2, low=0.1, high=0.3), True)], "R<10>"))
    assert "a&lt;b&gt; $x_1$" in drawn
    assert 'aria-label="R&lt;10&gt; of each' in drawn


def test_heatmap_when_small_then_numbers_are_written_and_when_large_then_not() -> None:
    small = str(plots.heatmap(np.full((3, 3), 0.25), "m"))
    large = str(plots.heatmap(np.full((32, 32), 0.25), "m"))
    assert small.count(">.25<") == 6  # 3 * 3 without the diagonal
    assert ">.25<" not in large


def test_token_experts_when_their_choices_are_of_another_version_then_the_section_says_so(tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir()
    old = {"belief": {"facets": 1.0}, "rank": {"facets": 1.0}, "search": {}, "validation": {}}
    (tmp_path / "tokens" / "choices.json").write_text(json.dumps(old))
    lacking = made(token_experts, tmp_path)
    assert isinstance(lacking, Missing)
    assert "must hold the settings of this version of recsys" in lacking.missing
