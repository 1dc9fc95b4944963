# Every verb sets itself up: Python 3.11 or newer, make and a package registry are all it needs.
# ARGS passes flags on:  make demo ARGS=--json   make test ARGS="-k receive"
SHELL := /bin/sh
PY := .venv/bin/python
ARGS ?=

# The caller's Python settings must not leak into ours; paths may carry any character, whatever the locale says.
unexport PYTHONHOME PYTHONPATH VIRTUAL_ENV
export PYTHONUTF8 := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo run migrate test check format bench openapi lock clean

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

setup: ## Make .venv ready (every other verb does this by itself)
	@sh tools/setup.sh

demo: setup ## Run the main story end to end on this machine; ARGS=--json for programs
	@$(PY) -m app.cli demo $(ARGS)

run: setup ## Start everything on this machine: database, queue, api, worker
	@$(PY) -m app.cli dev $(ARGS)

migrate: setup ## Bring the database of PARHELION_DATABASE_URL to the newest version
	@$(PY) -m app.cli migrate $(ARGS)

test: setup ## Run the tests; ARGS="-k name" for some of them
	@$(PY) -m pytest -n 2 --dist loadfile --durations 10 $(ARGS)

check: setup ## Formatting, lint, types, import rules, house rules, OpenAPI and Kubernetes files
	@$(PY) tools/check.py $(ARGS)

format: setup ## Rewrite the sources in the house format
	@$(PY) -m ruff check --fix-only --quiet . && $(PY) -m ruff format .

bench: setup ## Measure; ARGS=--json for programs
	@$(PY) -m benchmarks $(ARGS)

openapi: setup ## Write openapi/service.json from the routes
	@$(PY) -m app.cli openapi --write $(ARGS)

lock: setup ## Resolve the dependencies again and write both lock files
	@$(PY) tools/lock.py $(ARGS)

clean: ## Remove .venv and every cache; the data of `make run` stays
	@rm -rf .venv .venv-lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
