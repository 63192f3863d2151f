PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test gate fuzz clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --progress-bar off -c constraints.txt -e '.[dev]'
	touch $@

demo: install
	$(BIN)/recsys demo

# Cheapest first: format, lint, types, layers, tests.
gate: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: gate
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered -q

# Ten thousand odd inputs for the importers.
fuzz: install
	RECSYS_FUZZ=1 $(BIN)/python -m pytest tests/data/test_fuzz_importers.py -m slow -q

clean:
	rm -rf .venv runs
