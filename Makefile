# Two commands: `make quickstart` and `make test`. Both set up what they need in .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test test-all parity mutants fuzz docs lint types clean

quickstart: .venv/run.stamp
	$(BIN)/python -m vseg_jax.main --config configs/quickstart.py --workdir runs/quickstart

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not parity and not slow"

test-all: .venv/dev.stamp        # with the slow tests: ten kills, paper-size configs
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not parity"

parity: .venv/dev.stamp          # live comparison with public PyTorch code: see docs/parity.md
	$(BIN)/pip install -q -c constraints.txt -e '.[parity]'
	$(BIN)/python -m pytest -m parity tests/parity

mutants: .venv/dev.stamp         # do the tests notice changes of the equations? see CONTRIBUTING.md
	$(BIN)/pip install -q -c constraints.txt -e '.[mutants]'
	$(BIN)/python tests/mutants.py

fuzz: .venv/dev.stamp            # 5,000 damaged files of each kind; the tests try 25
	VSEG_FUZZ=5000 $(BIN)/python -m pytest -n 2 tests/fuzz

docs: .venv/dev.stamp            # the site, in site/; a broken link or name is an error
	$(BIN)/pip install -q -c constraints.txt -e '.[docs]'
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/check.py
	$(BIN)/zensical build --clean --strict

lint: .venv/dev.stamp types
	$(BIN)/ruff check .

types: .venv/dev.stamp           # the modules that pyproject.toml lists
	$(BIN)/mypy

clean:
	rm -rf .venv runs data build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/run.stamp: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install -q -c constraints.txt -e '.[video]'
	touch $@

.venv/dev.stamp: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@ .venv/run.stamp
