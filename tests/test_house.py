"""The shape of the code: sizes of modules and functions, that every module imports alone, how many names are public."""

import ast
import doctest
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("recsys", "pipelines", "serving")
FOUND = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MODULES = [path for path in FOUND if "migrations" not in path.parts]
"""Every module but the scripts that Alembic runs, which are no modules to import."""
LONGEST_MODULE, MEDIAN_MODULE, LONGEST_FUNCTION = 300, 110, 60
MOST_PUBLIC_NAMES_A_MODULE = 6.0
"""Public classes and functions a module, mean over modules that have any: a module does one thing."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


def functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, Function))


def public_names(path: Path) -> list[str]:
    """Return the classes and functions of a module that other modules may use."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [node.name for node in ast.parse(path.read_text()).body if isinstance(node, kinds) and node.name[0] != "_"]


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_modules_when_measured_then_none_is_long_and_half_are_short() -> None:
    sizes = {dotted(path): lines_of(path) for path in MODULES}
    assert {name: size for name, size in sizes.items() if size > LONGEST_MODULE} == {}
    assert median(sizes.values()) < MEDIAN_MODULE


def test_functions_when_measured_then_none_is_long() -> None:
    long = {
        f"{dotted(path)}.{function.name}": function.end_lineno - function.lineno + 1
        for path in MODULES
        for function in functions(path)
        if function.end_lineno is not None and function.end_lineno - function.lineno + 1 > LONGEST_FUNCTION
    }
    assert long == {}


def test_public_names_when_counted_then_a_module_has_few() -> None:
    counts = [len(names) for path in MODULES if (names := public_names(path))]
    assert sum(counts) / len(counts) < MOST_PUBLIC_NAMES_A_MODULE


def test_public_names_when_two_modules_of_a_package_share_one_then_it_means_one_thing() -> None:
    owners: dict[tuple[str, str], list[str]] = {}
    for path in MODULES:
        for name in public_names(path):
            if name[0].isupper():
                package = dotted(path).split(".")[0]
                owners.setdefault((package, name), []).append(dotted(path))
    shared = {name: where for (_, name), where in owners.items() if len(where) > 1}
    assert shared == {}


def test_modules_when_each_is_imported_first_then_it_needs_no_other_to_have_been() -> None:
    # one process: libraries stay loaded, ours are forgotten before each, as in a fresh process
    code = """
import importlib, sys
for name in sys.argv[1:]:
    for loaded in [one for one in sys.modules if one.split(".")[0] in ("recsys", "pipelines", "serving")]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except Exception as error:
        print(name, repr(error))
"""
    names = [dotted(path) for path in MODULES]
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == ""


WITH_EXAMPLES = [path for path in MODULES if ">>> " in path.read_text()]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=dotted)
def test_examples_in_docstrings_when_run_then_print_what_they_say(path: Path) -> None:
    found = doctest.testmod(importlib.import_module(dotted(path)))
    assert (found.failed, found.attempted > 0) == (0, True)
