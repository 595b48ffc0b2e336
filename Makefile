# Every target sets up what it needs: a virtual environment in .venv, made with python3 and pip alone.
# Variables: PYTHON (interpreter to build .venv from), TORCH (what pip installs for tests), ARGS (passed on to
# pytest, the demo or a benchmark), SCREENSHOTS (folder of what test-browser sees), q (which benchmarks).

PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= torch==2.13.0
ARGS   ?=
SCREENSHOTS ?= tests/browser/.screenshots
BENCHMARKS := embed_throughput embed_latency batching_waste train_throughput install_size
q      ?= $(BENCHMARKS)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-clients test-browser test-soak check check-viewer screenshots fix bench docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(VENV)/.dev ## install everything for development

demo: $(VENV)/.base ## map the standard library's docstrings, ask them questions, show the map in the browser; offline
	@GNOMONIC_OFFLINE=1 $(BIN)/gnomonic demo $(ARGS)

test: $(VENV)/.dev ## run the offline test suite
	$(BIN)/python -m pytest -q -n auto --dist loadscope $(ARGS)

test-clients: $(VENV)/.dev $(VENV)-clients/.done ## real clients against the server, and exported models in the runtime of transformers.js; needs node and npm
	GNOMONIC_CLIENTS_PYTHON=$(abspath $(VENV)-clients/bin/python) $(BIN)/python -m pytest -q -m clients tests/clients

test-browser: $(VENV)/.dev chromium ## the page of a map in Chromium, driven as a user does; pictures of it go to SCREENSHOTS
	GNOMONIC_SCREENSHOTS=$(abspath $(SCREENSHOTS)) $(BIN)/python -m pytest -q -m browser --durations 5 tests/browser $(ARGS)

screenshots: $(VENV)/.dev chromium ## take the pictures of the documentation again, docs/images
	$(BIN)/python -m tests.browser.pictures

test-soak: $(VENV)/.dev ## keep a server busy for SOAK_MINUTES (5) and look for growth and decay
	$(BIN)/python -m pytest -q -m soak tests/server/test_soak.py

check: $(VENV)/.dev check-viewer ## lint, formatting and types, no tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check-viewer: ## types of the viewer's JavaScript; passed over where npm is not or cannot install
	@if ! command -v npm >/dev/null; then echo "the viewer's types are not checked: npm is not installed"; \
	elif ! $(MAKE) --no-print-directory $(VENV)-viewer/.done; then echo "the viewer's types are not checked: npm cannot install tsc"; \
	else $(VENV)-viewer/node_modules/.bin/tsc -p tests/browser; fi

fix: $(VENV)/.dev ## format, and apply the safe lint fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev ## run the benchmarks, or some: make bench q="embed_latency"
	@set -e; for name in $(q); do echo "== $$name"; $(BIN)/python -m benchmarks.$$name $(ARGS); done

docs: $(VENV)/.dev ## rebuild the generated parts of README and docs/reference
	$(BIN)/python docs/generate.py

clean: ## remove the environment and what tools leave behind
	rm -rf $(VENV) $(VENV)-clients $(VENV)-viewer tests/browser/.screenshots build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The stamps make set-up happen once, and again when pyproject.toml or a kernel changes. A stamp is written last, so an
# interrupted set-up is simply done again.
$(VENV)/.base: pyproject.toml hatch_build.py $(wildcard src/gnomonic/atlas/kernels/*.cpp src/gnomonic/atlas/kernels/*.h)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Gnomonic needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + "; name another one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[server,atlas]'
	@touch $@

# torch goes first and alone: sentence-transformers would otherwise choose a version of its own.
$(VENV)/.dev: $(VENV)/.base
	$(PIP) '$(TORCH)'
	$(PIP) --editable '.[dev]'
	@touch $@

# The clients' own environment; llama-index's wants torch, so the small one goes first here too.
$(VENV)-clients/.done: tests/clients/requirements.txt
	$(PYTHON) -m venv $(VENV)-clients
	$(VENV)-clients/bin/python -m pip install --quiet '$(TORCH)'
	$(VENV)-clients/bin/python -m pip install --quiet -r tests/clients/requirements.txt
	@touch $@

# tsc, of the version that tests/browser/package.json names.
$(VENV)-viewer/.done: tests/browser/package.json
	@mkdir -p $(VENV)-viewer
	@cp tests/browser/package.json $(VENV)-viewer/
	@npm install --prefix $(VENV)-viewer --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# Debian's browser; playwright only drives it.
.PHONY: chromium
chromium:
	@command -v chromium >/dev/null || { \
	  command -v apt-get >/dev/null || { echo "install the browser chromium first: there is no apt-get here to do it"; exit 1; }; \
	  root=$$([ "$$(id -u)" = 0 ] || echo sudo); echo "installing Debian's chromium"; \
	  { $$root apt-get update -qq; $$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; } \
	  || { echo "chromium cannot be installed; run: apt-get install chromium"; exit 1; }; }
