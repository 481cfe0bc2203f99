# Each target sets up all it needs: a virtual environment in .venv, filled from requirements.lock (hashes checked).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := .venv-peers

.DEFAULT_GOAL := help
.PHONY: help run test lint types unit simulate bench bench-peers lock clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(STAMP)  ## run the demonstration: the sample shop on the embedded default
	@$(BIN)/python run.py demo

test: lint types unit  ## ruff, mypy and the whole test suite

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP)
	@$(BIN)/mypy

unit: $(STAMP)
	@$(BIN)/pytest -n 3 --dist loadgroup -q

SEEDS ?= 10000
SEED ?= 0

simulate: $(STAMP)  ## SEEDS=10000 runs of the whole system from SEED=0 on, each with its own faults; SEEDS=1 tells its story
	@PYTHONPATH=.:tests $(BIN)/python -m simulation $(if $(filter 1,$(SEEDS)),--seed $(SEED),--seeds $(SEEDS) --first $(SEED))

bench: $(STAMP)  ## measure; QUICK=1 for a short run of about two minutes
	@for file in benchmarks/[!_]*.py; do name=$$(basename $$file .py); echo "== $$name"; \
		$(BIN)/python -m benchmarks.$$name $(if $(QUICK),--quick) || exit 1; done

bench-peers: $(STAMP) $(PEERS)/.installed  ## measure the same requests beside LangGraph and DBOS; QUICK=1 for a short run
	@$(BIN)/python -m benchmarks.peers.durable_requests $(if $(QUICK),--quick)

lock:  ## pin every dependency anew (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate -o requirements.lock
	uv pip compile benchmarks/peers/requirements.in --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate -o benchmarks/peers/requirements.lock

clean:  ## remove the environment and all caches
	rm -rf $(VENV) $(PEERS) .mypy_cache .ruff_cache .pytest_cache .hypothesis var

# The environment is made anew when the lock changes. A Debian Python without the venv module is told what to install,
# or, where that needs nobody's permission, it is installed.
$(STAMP): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; this is $$($(PYTHON) --version)" >&2; exit 1; }
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { rm -rf $(VENV); \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get install -y -q python3-venv >&2 || { apt-get update -q >&2 && apt-get install -y -q python3-venv >&2; }; \
		fi; $(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "install the venv module: apt install python3-venv" >&2; exit 1; }; }
	@echo "installing the dependencies into $(VENV) (once)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

$(PEERS)/.installed: benchmarks/peers/requirements.lock
	@rm -rf $(PEERS)
	@$(PYTHON) -m venv $(PEERS)
	@echo "installing LangGraph and DBOS into $(PEERS) (once)" >&2
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		-r benchmarks/peers/requirements.lock
	@touch $@
