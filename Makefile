# make demo and make test need python3 (3.11 or later), make and git: what else
# they use is fetched into .tools/ and .venv/ of this folder.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

PY := .venv/bin/python
# Test processes side by side; on two cores three, since half of the time is waiting for Kuma.
WORKERS ?= 3
export PYTHONDONTWRITEBYTECODE := 1
RUN = $(PY) -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)
ALL = --ignore=tests/containers

.PHONY: help venv tools lint test test-sample test-all coverage soak bench demo containers-test fuzz pins clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile

venv: ## make .venv with the package and its development tools
	@scripts/fetch-tools venv

tools: ## fetch restic, rest-server and a real Uptime Kuma into .tools
	@scripts/fetch-tools

lint: venv ## ruff, ruff format --check, mypy strict, and the contracts of .importlinter
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-cache >.venv/layers.log || { cat .venv/layers.log; exit 1; }

test: lint tools ## lint and the quick tier; ARGS=path: all tests there
	$(if $(ARGS),,REPLICATOR_TEST_TIER=quick) $(RUN) $(or $(ARGS),--maxfail=5 $(ALL))

test-sample: tools ## a fixed part of what the quick tier leaves out, as CI runs it
	REPLICATOR_TEST_TIER=sample $(RUN) $(ALL)

test-all: lint tools ## all tests: each death, large models, every version, then a minute of soak
	REPLICATOR_TEST_EACH=1 REPLICATOR_TEST_INTERLEAVINGS=20000 REPLICATOR_TEST_FAULTS=200 \
		$(RUN) --timeout=3000 $(ALL)
	$(PY) -m scripts.soak --minutes 1 $(SOAK_ARGS)

coverage: tools ## the quick tier with branch coverage
	$(PY) -m coverage erase
	REPLICATOR_TEST_TIER=quick $(RUN) $(ALL) --cov --cov-report=term

soak: tools ## each death, 2,000 faults, the model, then minutes of edits, kills and outages (SOAK_MINUTES)
	REPLICATOR_TEST_EACH=1 $(PY) -m pytest -q -n $(WORKERS) --dist loadfile --timeout=3000 \
		tests/replication/apply/test_embedded.py tests/replication/apply/test_interrupted.py tests/replication/apply/test_kill.py \
		tests/replication/apply/test_mariadb_kill.py tests/replication/test_undo.py
	REPLICATOR_TEST_FAULTS=2000 $(PY) -m pytest -q tests/faults/test_many.py -n $(WORKERS) --timeout=3000
	REPLICATOR_TEST_INTERLEAVINGS=100000 $(PY) -m pytest -q tests/model -n $(WORKERS) --timeout=3000
	$(PY) -m scripts.soak $(SOAK_ARGS)

bench: tools ## measure dump, apply and idle checks at five sizes
	$(PY) -m scripts.bench $(BENCH_ARGS)

demo: tools ## run a real leader and a real replica and show an edit arrive
	$(PY) -m scripts.demo $(DEMO_ARGS)

containers-test: tools ## build the image, run all compose files and the try-out
	scripts/containers-test

fuzz: venv ## fuzz what reads a snapshot, FUZZ_SECONDS (10) a target; FUZZ_TARGETS for some only
	$(PY) -c 'import atheris' 2>/dev/null || $(PY) -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	$(PY) -m fuzz $(FUZZ_TARGETS)

pins: venv ## write requirements/image.txt anew: what the image installs, by its sums
	$(PY) -m scripts.pins

clean: ## remove what was fetched and made (.venv, .tools, caches)
	rm -rf .venv .tools .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
