PYTHON ?= python3
BIN := .venv/bin
# cpu, or cuda on a machine with an NVIDIA card
EXTRAS ?= cpu
# a third of all code of the packages; pip would compile all of it, on one core
RARELY_IMPORTED := /(tests?|testing|rllib|transformers/models)/

.PHONY: install demo test gate fuzz gpu-check clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --progress-bar off --no-compile -c constraints.txt -e '.[$(EXTRAS),dev]'
	$(BIN)/python -m compileall -qq -j 0 -x '$(RARELY_IMPORTED)' .venv/lib
	touch $@

demo: install
	$(BIN)/recsys demo

# Cheapest first: format, lint, types, layers, tests.
gate: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Two processes of one thread each: two cores are what CI has.
test: gate
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --cov --cov-report=term:skip-covered -q

# Ten thousand odd inputs for the importers.
fuzz: install
	RECSYS_FUZZ=1 $(BIN)/python -m pytest tests/data/test_fuzz_importers.py -m slow -q

# Training, decoding and encoding on a CUDA device beside the CPU, in at most 8 minutes; DATA=FOLDER trains on a data set of yours.
gpu-check: install
	timeout 480 $(BIN)/recsys bench gpu $(if $(DATA),--data $(DATA))

clean:
	rm -rf .venv runs
