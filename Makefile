VENV ?= .venv
PYTHON ?= python3
# Processes that run tests; each takes about 1.5 GB.
JOBS ?= auto
export VENV PYTHON

PYTEST = $(VENV)/bin/python -m pytest -n $(JOBS) --maxprocesses=8
FAST = --dist=loadfile -m 'not slow' tests/unit tests/integration
# Single tests take minutes: an idle process takes over tests of a busy one.
SLOW = --dist=worksteal -m slow tests

.PHONY: help demo test test-slow test-gpu test-all lint docs core full clean

help:
	@echo 'make demo       install the core stack and run the demo (minutes)'
	@echo 'make test       run the unit and integration tests (5 to 10 minutes on two cores)'
	@echo 'make test-slow  run the other tests'
	@echo 'make test-gpu   run the tests that need a GPU, on one'
	@echo 'make test-all   run all tests and measure their coverage'
	@echo 'make lint       check style, spelling, types and layers'
	@echo 'make docs       build the site of docs/, in docs/_build/html'
	@echo 'make core       install the core stack; make full: the full one'
	@echo 'make clean      remove the environment, data/digits, results of the demo, built docs'

demo: core
	$(VENV)/bin/python -m projects.digits.demo $(ARGS)

test: full
	$(PYTEST) $(FAST) $(ARGS)

test-slow: full
	$(PYTEST) $(SLOW) $(ARGS)

test-gpu: full
	TEST_GPU=1 $(VENV)/bin/python -m pytest -m gpu tests $(ARGS)

test-all: full
	$(VENV)/bin/coverage erase
	$(PYTEST) $(FAST) --cov --cov-report= $(ARGS)
	$(PYTEST) $(SLOW) --cov --cov-append --cov-report=term-missing:skip-covered --cov-fail-under=97 $(ARGS)

lint: full
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/codespell
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/mypy

docs: full
	rm -rf docs/api
	$(VENV)/bin/python -m sphinx -W --keep-going -q docs docs/_build/html

core full:
	@requirements/install.sh $@

clean:
	rm -rf $(VENV) work_dirs/demo data/digits *.egg-info build docs/_build docs/api
