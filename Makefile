# What a person types. Everything needed is installed into .venv by itself, at the first use and when pyproject.toml or
# constraints.txt have changed; needed are only make, python3 (3.11 or newer, with venv) and a package index.
#
#   make demo    the daemon at work on the example shop, restarted while jobs run      make test ARGS="-k name"   the tests
#   make run     the daemon in the foreground with the example shop                    make lint                  all checks
#   make bench   the measurements                                                      make docs                  the manual

PYTHON ?= python3
ARGS ?=
# Processes that share the tests: twice the cores, because many tests wait more than they compute. One: make test JOBS=0.
JOBS ?= $(shell $(PYTHON) -c 'import os; print(min(16, 2 * len(os.sched_getaffinity(0))))')
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check
SHOP := examples/shop
DATABASE := $(SHOP)/var/shop.sqlite3
# A virtual environment does not survive being moved: its stamps carry the folder's checksum.
STAMP := $(VENV)/installed-$(firstword $(shell pwd | cksum))
SHOP_STAMP := $(STAMP)-shop
BENCH_STAMP := $(STAMP)-bench

.PHONY: demo test test-python run bench lint format docs lock shop dist clean distclean
.DEFAULT_GOAL := test
.DELETE_ON_ERROR:

demo: $(SHOP_STAMP) $(DATABASE)
	$(BIN)/python -m demo $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --maxschedchunk 1 $(ARGS)

# The same with another Python, in an environment of its own: make test-python PYTHON=python3.13 ARGS=tests/unit
test-python:
	$(MAKE) test VENV=.venv-$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')

run: $(SHOP_STAMP) $(DATABASE)
	$(BIN)/rocksyd serve -c $(SHOP)/rocksyd.toml $(ARGS)

bench: $(BENCH_STAMP) $(DATABASE)
	$(BIN)/python -m bench $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/blocking_client.py --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/shape.py
	$(BIN)/python docs/reference.py --check

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python tools/blocking_client.py

docs: $(STAMP)
	$(BIN)/python -m sphinx -q -b html -W --keep-going docs docs/_build/html
	@echo "the manual: docs/_build/html/index.html"

shop: $(DATABASE)

# Order-only: a new installation is no reason to make the shop's database again.
$(DATABASE): $(wildcard $(SHOP)/catalogue/migrations/0*.py) | $(SHOP_STAMP)
	mkdir -p $(@D)
	$(BIN)/python $(SHOP)/manage.py migrate --verbosity 0
	$(BIN)/python $(SHOP)/manage.py seed
	@touch $@

# What the example needs is enough for `make demo` and `make run`; everything else needs the rest as well.
$(SHOP_STAMP): pyproject.toml examples/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "rocksyd needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || echo missing)." >&2; \
	  echo "Name another one, for example: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make virtual environments: install its venv module (Debian: apt install python3-venv)." >&2; exit 1; }
	@rm -f $(VENV)/installed-*
	@test "$$(cd $(BIN) 2>/dev/null && ./python -c 'import os, sys; print(os.path.samefile(sys.prefix, os.pardir))' 2>/dev/null)" = True \
	  || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing into $(VENV) what the example shop uses: Django, pandas, SQLAlchemy ($$(grep -c == examples/constraints.txt) packages at most)"
	$(PIP) --require-hashes -r examples/constraints.txt
	$(PIP) --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(STAMP): constraints.txt $(SHOP_STAMP)
	@echo "installing into $(VENV) what tests, checks and the manual use ($$(grep -c == constraints.txt) packages at most)"
	$(PIP) --quiet --require-hashes -r constraints.txt
	@touch $@

# The peers that `make bench` measures rocksyd beside; nothing else needs them.
$(BENCH_STAMP): bench/constraints.txt $(STAMP)
	$(PIP) --quiet --require-hashes -r bench/constraints.txt
	@touch $@

# For every supported Python at once, and with no address of a package index in it. What is in the file already stays, if it fits.
COMPILE = build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --no-annotate --no-header $(ARGS) pyproject.toml
comma := ,
define lock_file
	cp $(1) build/locked.txt
	$(COMPILE) $(2) --output-file build/locked.txt > /dev/null
	{ echo '# Exact versions of everything in the $(3), for Python 3.11 and newer. Made by `make lock`; do not edit.'; \
	  cat build/locked.txt; } > $(1)
	rm build/locked.txt
endef
lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet --disable-pip-version-check uv
	$(call lock_file,constraints.txt,$(addprefix --extra ,dev examples gateway metrics otel profiler scheduler services),extras dev$(comma) examples$(comma) gateway$(comma) metrics$(comma) otel$(comma) profiler$(comma) scheduler and services)
	$(call lock_file,examples/constraints.txt,--extra demo --constraints constraints.txt,extra demo)
	$(call lock_file,bench/constraints.txt,--extra bench --constraints constraints.txt,extra bench)

# What is published: the source, a wheel for every machine, and one with the compiled launcher for every Linux of this processor.
dist: $(STAMP)
	rm -rf dist
	$(BIN)/python -m build --no-isolation --sdist
	ROCKSYD_LAUNCHER=python $(BIN)/python -m build --no-isolation --wheel
	ROCKSYD_LAUNCHER=static $(BIN)/python -m build --no-isolation --wheel

clean:
	rm -rf build dist docs/_build htmlcov .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf $(SHOP)/var bench/results
	find src tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
