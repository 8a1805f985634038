# A machine with Python 3.11 or newer, make and pip is enough: .venv is made when it is missing.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test check test-slow bench results clean

demo: $(STAMP)  ## the digits grid, from nothing to the report's page
	$(BIN)/dfkd run benchmarks/digits.py --out runs

test: $(STAMP)  ## the fast tests
	$(BIN)/pytest -q -n 2 --dist loadgroup -m "not slow"

test-slow: $(STAMP)  ## kills, nodes lost, a thousand trials
	$(BIN)/pytest -q -m slow

check: $(STAMP)  ## what CI runs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MAKE) test

bench: $(STAMP)  ## rounds of six methods against the released way, as ratios (20 minutes)
	$(BIN)/python -m tests.methods.bench_round --formula

results: $(STAMP)  ## every committed report anew, from what is committed beside it
	for each in benchmarks/results/*/trials.zip; do \
	  $(BIN)/dfkd publish $$(dirname $$each) --to $$(dirname $$each) || exit 1; done

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

clean:
	rm -rf .venv runs
