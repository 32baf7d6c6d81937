# Meshway. Every target makes the virtual environment it needs, so each can be the first command on a fresh clone.
#   PYTHON=python3.12   which Python makes the environments (3.11 or later)
#   ARGS='...'          passed on to `run`, `test`, `test-compiled` and `bench`
#   TESTS=tests/unit    which tests to run
#   JOBS=3              how many test processes run side by side (most of them wait most of the time)

PYTHON ?= python3
JOBS ?= 3
TESTS ?= tests
ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PIP := -m pip --disable-pip-version-check --no-input
# What an environment is made from: when one of these changes, it is brought up to date.
RECIPE := pyproject.toml constraints.txt setup.py
# What an installed, not editable, package is made from.
SOURCES := $(shell find gateway registry examples protos -name '*.py' -o -name '*.pyi' -o -name '*.proto' -o -name '*.yaml')

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '  make %-14s %s\n' "$$name" "$$text"; done

.PHONY: run
run: .venv/installed ## Start a whole mesh with live traffic: make run ARGS='--seconds 10'
	@.venv/bin/python -m examples.demo $(ARGS)

.PHONY: test
test: .venv/installed ## Run the tests on the interpreted sources
	.venv/bin/pytest -n $(JOBS) $(TESTS) $(ARGS)

.PHONY: test-compiled
test-compiled: .venv-compiled/built ## Run the same tests on the package compiled by mypyc
	@# From another folder: `python -m gateway` would find the sources in this one before the installed package.
	cd .venv-compiled && MESHWAY_EXPECT=compiled bin/pytest --rootdir $(CURDIR) -c $(CURDIR)/pyproject.toml \
		-n $(JOBS) $(abspath $(TESTS)) $(ARGS)

.PHONY: check
check: .venv/installed ## Lint, types, import directions, generated code
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/python protos/generate.py --check
	.venv/bin/pytest -q tests/unit/test_imports.py

.PHONY: format
format: .venv/installed ## Put the sources into the one format
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

.PHONY: protos
protos: .venv/installed ## Generate the code beside each .proto
	.venv/bin/python protos/generate.py

.PHONY: bench
bench: .venv-bench/installed .venv/installed .venv-compiled/built ## Measure the gateway beside HAProxy, nginx and Envoy
	.venv-bench/bin/python -m bench $(ARGS)

.PHONY: constraints
constraints: ## Write constraints.txt anew, from the newest allowed versions
	rm -rf build/constraints
	$(PYTHON) -m venv build/constraints
	MESHWAY_COMPILE=0 build/constraints/bin/python $(PIP) install -q '.[dev,bench]'
	build/constraints/bin/python $(PIP) freeze --exclude meshway > build/constraints.txt
	mv build/constraints.txt constraints.txt
	rm -rf build/constraints

.PHONY: clean
clean: ## Remove the environments, builds and caches
	rm -rf .venv .venv-compiled .venv-bench build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# The environments. The first two lines say in one sentence what is wrong with a Python that cannot be used.
define environment
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Meshway needs Python 3.11 or later, and $(PYTHON) is %d.%d: try make PYTHON=python3.12" % sys.version_info[:2])'
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "$(PYTHON) lacks its venv module: on Debian or Ubuntu, apt-get install python3-venv"; exit 1; }
	test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
endef

.venv/installed: $(RECIPE)
	$(call environment,.venv)
	MESHWAY_COMPILE=0 .venv/bin/python $(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@

.venv-compiled/installed: $(RECIPE)
	$(call environment,.venv-compiled)
	MESHWAY_COMPILE=0 .venv-compiled/bin/python $(PIP) install -q -c constraints.txt '.[dev]'
	@touch $@

# build/lib* is what the last build left: modules renamed since then would be packed again.
.venv-compiled/built: .venv-compiled/installed $(SOURCES)
	@command -v $(CC) >/dev/null || { echo "Compiling needs a C compiler and $(CC) is not one here: on Debian or Ubuntu, apt-get install build-essential"; exit 1; }
	rm -rf build/lib* build/bdist*
	MESHWAY_COMPILE=1 .venv-compiled/bin/python $(PIP) install -q --no-deps --force-reinstall .
	@touch $@

.venv-bench/installed: $(RECIPE)
	$(call environment,.venv-bench)
	MESHWAY_COMPILE=0 .venv-bench/bin/python $(PIP) install -q -c constraints.txt -e '.[bench]'
	@touch $@
