# `make run` and `make test` need Python 3.11 or newer and make, nothing else.
.DEFAULT_GOAL := help
.PHONY: help install install-dev services run test lint types architecture initial-migration migrations docs test-pure test-sqlite test-postgres test-mariadb test-newest test-matrix test-sdks test-sdk test-faults bench format lock clean

VENV := .venv
PY := $(VENV)/bin/python

# What the tests on MariaDB run: a database may differ in what it stores, compares, locks and refuses.
ON_EVERY_DATABASE := tests/databases tests/models tests/configuration/test_content_check.py tests/ledger tests/admin/test_changes.py tests/admin/test_pages.py \
  tests/setup/test_configure.py tests/health/test_lease.py \
  tests/importing/test_write.py tests/health/test_credentials.py

# Most tests wait for servers, so more of them than cores run at a time; a file stays in one process.
PARALLEL := -n 3 --dist loadfile

# A few minutes' worth of what Django may change: models, admin, checks, settings, packaging, both ways of calling.
SMOKE := tests/models tests/admin tests/contrib tests/conf tests/project/test_security.py tests/test_packaging.py \
  tests/databases/test_host_settings.py tests/router/test_in_process.py tests/api/test_openai.py
SUITE := tests

# The checks see neither an operator's database nor his secrets.
CHECKS := env -u REDIS_URL DJANGO_SECRET_KEY=checks DATABASE_URL=sqlite://:memory:

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## Make .venv and install what the service needs
	@scripts/install.sh requirements.txt

install-dev: ## Make .venv and install what the tests need
	@scripts/install.sh requirements-dev.txt

services: ## See that PostgreSQL, MariaDB and Redis are installed for the tests
	@scripts/services.sh

run: install ## Set up, serve on 127.0.0.1:8000 (PORT changes it) and show a routed completion
	@exec $(PY) -m project.quickstart

test: install-dev services lint types architecture migrations docs test-pure test-sqlite test-postgres test-mariadb test-newest test-sdk ## Run every check and every test

lint: install-dev ## Style
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: install-dev ## Static types, strict
	$(CHECKS) $(PY) -m mypy

architecture: install-dev ## The rings: imports go inwards only
	$(VENV)/bin/lint-imports

migrations: install-dev ## Django's own checks, and models without a migration
	$(CHECKS) $(PY) manage.py check --fail-level WARNING
	$(CHECKS) $(PY) manage.py makemigrations --check --dry-run

initial-migration: install-dev ## Write the one migration anew from the models
	rm -f llm_routing/migrations/0001_initial.py
	$(CHECKS) $(PY) manage.py makemigrations llm_routing --name initial --no-header
	$(PY) -m ruff check --quiet --fix llm_routing/migrations
	$(PY) -m ruff format --quiet llm_routing/migrations

docs: install-dev ## Build the site of docs/ in build/docs; a warning is an error
	$(CHECKS) $(PY) -m sphinx --fail-on-warning --keep-going --fresh-env --quiet docs build/docs

test-pure: install-dev ## core and formats: without Django, every branch
	$(PY) -m pytest -p no:django -n 2 tests/core tests/formats --cov=llm_routing.core --cov=llm_routing.formats --cov-fail-under=100

test-sqlite: install-dev ## Everything else on SQLite, state in memory
	TEST_SERVICES=none $(PY) -m pytest $(PARALLEL) --ignore=tests/core --ignore=tests/formats -m "not faults"

test-postgres: install-dev services ## What uses a database or Redis, on PostgreSQL and Redis
	TEST_SERVICES=servers $(PY) -m pytest $(PARALLEL) --ignore=tests/core --ignore=tests/formats -m "services and not faults"

test-mariadb: install-dev services ## What touches the database, on MariaDB
	TEST_SERVICES=mariadb $(PY) -m pytest $(PARALLEL) $(ON_EVERY_DATABASE) -m "not faults"

test-newest: install-dev ## The smoke tests on the newest Django, where Python 3.12 or newer is installed
	@scripts/matrix.sh newest $(SMOKE)

test-matrix: install-dev ## All tests on SQLite on every supported Python that is installed, with every Django; SUITE=smoke is short
	@scripts/matrix.sh all $(if $(filter smoke,$(SUITE)),$(SMOKE),$(SUITE))

test-sdks: install-dev ## The test suites of official clients, through the gateway
	@scripts/sdks.sh $(CLIENTS)

test-sdk: install-dev ## The test suite of one of them, if its packages can be downloaded
	@scripts/sdks.sh --if-present openai

test-faults: install-dev services ## Every fault, the slow ones too, on PostgreSQL and Redis
	TEST_SERVICES=servers $(PY) -m pytest $(PARALLEL) tests/faults

bench: install-dev services ## Measure it beside other gateways, on an idle machine; writes bench/RESULTS.md
	@scripts/bench.sh
	$(PY) -m bench --write

format: install-dev ## Rewrite the source in the project's style
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

lock: install-dev ## Write the lock files from the .in files; UPGRADE=--upgrade takes newer releases
	@for name in requirements requirements-dev requirements-release requirements-sdks; do \
	  $(PY) -m uv pip compile $$name.in --output-file $$name.txt --universal --python-version 3.11 \
	    --generate-hashes --no-config --quiet --custom-compile-command "make lock" $(UPGRADE) || exit 1; \
	done

clean: ## Remove what can be made again; var/ and .venv stay
	rm -rf build dist *.egg-info .coverage .coverage.* htmlcov .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
