"""What README and docs tell a reader to type exists: verbs and options, settings, files, targets of make, variables."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main
from pydantic import BaseModel

from pipelines.cli import app
from pipelines.cli_measure import NAMES
from pipelines.recipe import Recipe, load_recipe
from serving.settings import ServingConfig

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
CODE = re.compile(r"`([^`]+)`")
VERBS: dict[str, click.Command] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
COMMAND = re.compile(rf"(?:(?:\.venv/bin/)?recsys (?!VERB)(.*)|((?:{'|'.join(VERBS)}) [A-Z-].*))")
PATH = re.compile(r"(?<![\w/.])(?:recsys|pipelines|serving|tests|docs|deploy)/[\w./*-]+")
EXTRAS = re.compile(r"\.\[([a-z,]+)\]")
VARIABLE = re.compile(r"RECSYS_[A-Z_]+")
SETTING = re.compile(r"^([a-z_]+(?:\.[a-z_]+)+)(?:\s*=.*)?$", re.DOTALL)


def code_of(text: str) -> Iterator[str]:
    """Yield the lines of a page's code blocks without their comments, then its words set as code."""
    plain = []
    for line in text.splitlines():
        if line.startswith("    "):
            yield re.split(r"\s+#", line.strip())[0]
        else:
            plain.append(line)
    for found in CODE.findall("\n".join(plain)):
        yield " ".join(found.split())


def commands_of(page: Path) -> list[str]:
    """Return the calls of `recsys` on a page, each without the program's name."""
    found = [COMMAND.fullmatch(code) for code in code_of(page.read_text())]
    return [one.group(1) or one.group(2) for one in found if one]


CALLS = [(page.name, call) for page in PAGES for call in commands_of(page)]


@pytest.mark.parametrize(("page", "call"), CALLS, ids=lambda value: value.replace(" ", "_")[:60])
def test_commands_of_the_docs_when_parsed_then_verbs_options_and_settings_exist(page: str, call: str) -> None:
    verb, *words = shlex.split(re.sub(r"\bN\b", "1", call))
    assert verb in VERBS, f"{page} names the verb {verb}"
    values = context_values(VERBS[verb], words)
    load_recipe("default", tuple(values.get("sets") or ()))
    if (recipe := values.get("recipe")) and not str(recipe).isupper() and "|" not in str(recipe):
        load_recipe(str(recipe))
    if verb == "bench":
        assert values["name"] in (*NAMES, "NAME")


def context_values(command: click.Command, words: list[str]) -> dict[str, Any]:
    """Return what a call would hand to the verb; options and their types are checked, callbacks are not run."""
    for parameter in command.params:
        parameter.callback = None
        parameter.required = False  # prose names a verb with the one option that it speaks of
    with command.make_context(command.name, words) as context:
        return dict(context.params)


def settings_of(config: BaseModel | type[BaseModel], path: str = "") -> set[str]:
    """Return the dotted names of all settings below a section, and of sections themselves."""
    found = set()
    kind = config if isinstance(config, type) else type(config)
    for name in kind.model_fields:
        value = None if isinstance(config, type) else getattr(config, name)
        found.add(f"{path}{name}")
        if isinstance(value, BaseModel):
            found |= settings_of(value, f"{path}{name}.")
    return found


def test_settings_of_the_docs_when_looked_up_then_exist() -> None:
    known = settings_of(Recipe())
    sections = {name for name, value in Recipe() if isinstance(value, BaseModel)}
    named = [
        (page.name, match.group(1))
        for page in PAGES
        for code in code_of(page.read_text())
        if (match := SETTING.fullmatch(code)) and match.group(1).split(".")[0] in sections
    ]
    assert len(named) > 10
    assert [one for one in named if one[1] not in known] == []


def default_of(name: str) -> float | None:
    """Return the default of a setting of the server or of a recipe; None where there is no such number."""
    value: Any = ServingConfig() if name in ServingConfig.model_fields else Recipe()
    for part in name.split("."):
        value = getattr(value, part, None)
    return value if isinstance(value, int | float) else None


def test_defaults_of_the_docs_when_a_number_follows_a_setting_then_it_is_the_default() -> None:
    told = {
        (name, float(number.replace(",", "")))
        for page in PAGES
        for name, number in re.findall(r"`([a-z_.]+)` \(([0-9.,]*[0-9])\)", page.read_text())
    }
    compared = {(name, number, default) for name, number in told if (default := default_of(name)) is not None}
    assert len(compared) >= 4
    assert {one for one in compared if one[1] != one[2]} == set()


def test_files_and_variables_of_the_docs_when_looked_up_then_exist() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    missing = [path for path in PATH.findall(text) if not list(ROOT.glob(path.rstrip("./")))]
    assert missing == []
    code = "\n".join(
        path.read_text()
        for folder in ("pipelines", "recsys", "serving", "tests")
        for path in sorted((ROOT / folder).rglob("*.py"))
    )
    assert {name for name in VARIABLE.findall(text) if f'"{name}"' not in code} == set()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {name for name in re.findall(r"`make ([a-z-]+)", text) if name not in targets} == set()


def test_extras_of_docs_and_image_when_looked_up_then_exist_and_the_image_can_encode_items() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {path.name: EXTRAS.findall(path.read_text()) for path in (*PAGES, ROOT / "Dockerfile")}
    assert {one for found in named.values() for group in found for one in group.split(",")} <= set(extras)
    (image,) = named["Dockerfile"]
    assert "cpu" in image.split(",")  # faiss: what encodes new items, and torch's model, import it
