VENV ?= .venv
PYTHON ?= python3
export VENV PYTHON

.PHONY: help demo test lint core full clean

help:
	@echo 'make demo   install the core stack and run the demo (minutes)'
	@echo 'make test   install the full stack and run the tests'
	@echo 'make lint   check style'
	@echo 'make core   install the core stack; make full: the full one'
	@echo 'make clean  remove the environment and what demo and tests wrote'

demo: core
	$(VENV)/bin/python tools/demo.py $(ARGS)

test: full
	$(VENV)/bin/python -m pytest tests $(ARGS)

lint: full
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

core full:
	@requirements/install.sh $@

clean:
	rm -rf $(VENV) work_dirs/demo data/digits *.egg-info build
