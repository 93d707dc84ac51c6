# Everything is done in .venv, from requirements.lock. 'make' lists the targets.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-spark check lint lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*  ## /  make \1|/' | column -t -s '|'

venv: $(STAMP)  ## .venv with logflume and everything it needs, as pinned in requirements.lock

# A name in PATH is not enough: it may be a shim without a Python, or a Python without venv.
$(STAMP): requirements.lock pyproject.toml logflume/kafka/_native.c
	@python=$$(for name in python3.13 python3.12 python3.11 python3; do type -ap $$name; done | while read -r one; do \
	  "$$one" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$one" && break; done); \
	if [ -z "$$python" ]; then \
	  echo "error: no Python 3.11 or newer with the venv module in PATH" >&2; \
	  echo "install one; on Debian and Ubuntu: apt-get install python3 python3-venv" >&2; exit 1; fi; \
	[ -x $(BIN)/python ] || "$$python" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@# setuptools warns that editable installs may shadow folders; here nothing can
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: venv  ## see it work, without Kafka or HDFS
	$(BIN)/logflume demo

# Two processes, each with servers of its own: most of the time tests wait. By file, since fixtures are costly.
test: venv  ## all tests; those with real servers where java and mvn are found
	$(BIN)/pytest -n 2 --dist loadfile

# Not among the other tests: pyspark is some 300 MB.
test-spark: venv  ## the Spark engine of backfill on a real local Spark; installs pyspark in .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-spark.lock
	$(BIN)/pytest tests/backfill/test_spark.py

check: lint  ## lint and types
	$(BIN)/mypy

lint: venv  ## style, errors that ruff finds, format
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	! command -v cc >/dev/null || cc -fsyntax-only -std=gnu11 -Wall -Wextra -Werror \
	  -I$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))') logflume/kafka/_native.c

COMPILE := --quiet --extra zookeeper --extra parquet --extra dev --allow-unsafe --generate-hashes \
  --no-emit-index-url --no-emit-find-links --strip-extras

# Made with the oldest Python that is supported: a lock of a newer one would lack backports.
lock: venv  ## make both lock files anew from pyproject.toml; needs .venv to be of Python 3.11
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "error: make lock needs a .venv of Python 3.11" >&2; exit 1; }
	CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile $(COMPILE) --output-file requirements.lock pyproject.toml
	CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile $(COMPILE) --extra spark --constraint requirements.lock \
	  --output-file requirements-spark.lock pyproject.toml

clean:  ## remove what was built and cached, and .venv
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info logflume/kafka/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Needs an hour or two and a machine without other work; the servers are those of the tests.
.PHONY: bench bench-peers
bench: venv  ## speed and CPU beside a bare consumer, and time to a complete hour; writes bench/results
	$(BIN)/python -m bench all

bench-peers: venv  ## Spark and Flume beside logflume on this machine; the first time it fetches both
	$(BIN)/python -m bench peers

# The proof under faults: the real worker over a played broker, and what it must survive.
.PHONY: crash soak mutants faults faults-real evidence
SECONDS_OF_SOAK ?= 3600

crash: venv  ## every crash point of every variant; some minutes on two cores
	$(BIN)/python -m tests.crash

soak: venv  ## the simulator for an hour, or SECONDS_OF_SOAK=N; a failing seed says how to see it again
	$(BIN)/python -m tests.sim --seconds $(SECONDS_OF_SOAK)

mutants: venv  ## known-wrong variants of the product: all must be caught
	$(BIN)/python -m tests.mutants

faults: venv  ## run the tests of the fault catalogue and print the table: row, tests, kind, result
	$(BIN)/python -m tests.faults

faults-real: venv  ## real faults on real servers, some 40 of them, a minute each
	$(BIN)/python -m tests.real

evidence: venv  ## all of it but 'faults', more than an hour, into evidence/; ARGS=--quick takes some ten minutes
	$(BIN)/python -m tests.evidence $(ARGS)
	$(BIN)/python -m tests.readme
