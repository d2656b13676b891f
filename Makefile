# The front door: every target makes .venv itself, so `make demo` on a clean clone is enough.
# Needs Python 3.11 or newer with its venv module, a C compiler, git, make and bash.

SHELL := bash
.SHELLFLAGS := -o pipefail -c

VENV       ?= .venv
MODEL      ?= demo
TARGET     ?= cpu
QUANT      ?=
CUDA_ARCH  ?=
PROMPT     ?= def fibonacci(
OUT        ?= artifacts/$(notdir $(MODEL))-$(subst :,-,$(TARGET))$(if $(QUANT),-$(QUANT))
# pip's own index decides which torch wheel is taken; on Linux PyPI's brings CUDA along (gigabytes).
# TORCH_INDEX=URL takes it from another index, such as the one with builds for the CPU alone.
TORCH_INDEX ?=
TEST_WORKERS ?= 2

PYTHON := $(VENV)/bin/python
INGOT  := $(VENV)/bin/ingot
DEMO   := artifacts/demo-f32
# cuda:sm_90 for the compiler, cuda alone for this machine's GPU; other names go through as they are.
GPU         := cuda$(if $(CUDA_ARCH),:$(CUDA_ARCH))
TARGET_NAME := $(if $(filter cuda,$(TARGET)),$(GPU),$(TARGET))
FIND_PYTHON = for p in $${PYTHON3:-} python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && exit; done

# Values reach the recipes as environment variables, so a prompt may hold quotes.
export MODEL PROMPT OUT

.DEFAULT_GOAL := help
.PHONY: help setup demo compile run chat serve verify bench gpu-check test lint docs demo-model clean

help: ## Print this list.
	@grep -hE '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | while IFS='	' read -r name text; \
		do printf '  make %-11s %s\n' "$$name" "$$text"; done
	@echo
	@echo 'Variables: MODEL=$(MODEL) TARGET=$(TARGET) QUANT= OUT=$(OUT) CUDA_ARCH=$(CUDA_ARCH) PROMPT="..."'

setup: $(VENV)/.ingot-setup ## Make .venv with everything that compiling, benchmarks and tests need.

$(PYTHON):
	@python=$$($(FIND_PYTHON)); \
	if [ -z "$$python" ]; then echo "No Python 3.11 or newer found; name one with PYTHON3=/path/to/python make setup" >&2; exit 1; fi; \
	echo "Making $(VENV) with $$python"; $$python -m venv $(VENV)

# torch first and by itself, so that its index does not serve anything else.
$(VENV)/.ingot-setup: pyproject.toml | $(PYTHON)
	$(PYTHON) -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) 'torch==2.13.*'
	$(PYTHON) -m pip install --quiet 'setuptools>=77' -e '.[compile,serve,bench,dev]'
	@touch $@

# NVRTC and CUDA's headers, for machines that compile for a GPU without the CUDA toolkit.
$(VENV)/.ingot-setup-nvrtc: $(VENV)/.ingot-setup
	$(PYTHON) -m pip install --quiet -e '.[nvrtc]'
	@touch $@

ifneq ($(filter cuda%,$(TARGET)),)
COMPILE_SETUP := $(VENV)/.ingot-setup-nvrtc
else
COMPILE_SETUP := $(VENV)/.ingot-setup
endif

demo: $(VENV)/.ingot-setup ## Compile the embedded model, complete a line of Python, compare with eager.
	$(INGOT) compile demo --target cpu --quant f32 --out $(DEMO) --force
	@echo; echo '== compiled'
	@$(INGOT) run $(DEMO) "$$PROMPT" --max-tokens 64 --temperature 0 | tee $(DEMO)-compiled.txt
	@echo; echo '== eager'
	@$(INGOT) run $(DEMO) "$$PROMPT" --max-tokens 64 --temperature 0 --eager demo | tee $(DEMO)-eager.txt
	@cmp $(DEMO)-compiled.txt $(DEMO)-eager.txt && { echo; echo '== the same text'; }
	$(INGOT) bench compare demo --artifact $(DEMO) --backend compiled --backend eager \
		--prompt-tokens 16 --prompt-tokens 128 --batch 1 --new-tokens 64

compile: $(COMPILE_SETUP) ## Compile MODEL for TARGET (cpu, cuda, ...) into OUT; QUANT= picks the scheme.
	$(INGOT) compile "$$MODEL" --target "$(TARGET_NAME)" $(if $(QUANT),--quant $(QUANT)) --out "$$OUT" --force

$(OUT)/manifest.json: | $(COMPILE_SETUP)
	$(INGOT) compile "$$MODEL" --target "$(TARGET_NAME)" $(if $(QUANT),--quant $(QUANT)) --out "$$OUT"

run: $(OUT)/manifest.json ## Complete PROMPT with the artifact OUT (compiled first if it isn't there).
	$(INGOT) run "$$OUT" "$$PROMPT"

chat: $(OUT)/manifest.json ## Talk to the artifact OUT (compiled first if it isn't there).
	$(INGOT) chat "$$OUT"

serve: $(OUT)/manifest.json ## Serve the artifact OUT over HTTP, OpenAI's API and a page (SERVE_ARGS="--port 9000").
	$(INGOT) serve "$$OUT" $(SERVE_ARGS)

verify: $(OUT)/manifest.json ## Compare the artifact OUT with the eager model, layer by layer.
	$(INGOT) verify "$$OUT"

bench: $(OUT)/manifest.json ## Compare the artifact OUT with eager, torch.compile and onnxruntime in speed.
	$(INGOT) bench compare "$$MODEL" --artifact "$$OUT" $(if $(filter cuda%,$(TARGET)),--device cuda)

# The folder may be copied to the machine with the GPU: running it needs no compiler.
CHECK      ?= artifacts/gpu-check
CHECK_ARGS ?=

$(CHECK)/plan.json: | $(VENV)/.ingot-setup-nvrtc
	$(PYTHON) -m ingot.bench.gpu_check prepare "$(CHECK)" --target "$(GPU)"

gpu-check: $(CHECK)/plan.json ## Check kernels, proofs and speed on this machine's GPU, within ten minutes.
	$(PYTHON) -m ingot.bench.gpu_check run "$(CHECK)" --out "$(CHECK)/results.json" $(CHECK_ARGS)

test: $(VENV)/.ingot-setup ## Run the tests: no GPU, no network, no downloads.
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q -n $(TEST_WORKERS) --dist worksteal $(TEST_ARGS)

lint: $(VENV)/.ingot-setup ## Check style (ruff), format and types (mypy).
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(VENV)/.ingot-setup ## Write docs/cli.md again from the command line's own help.
	$(PYTHON) -m ingot.cli.docs

demo-model: $(VENV)/.ingot-setup ## Train the embedded model again from nothing (about an hour).
	$(PYTHON) -m ingot.models.demo_training --out models/demo --steps 1200 --draft-steps 600

clean: ## Remove artifacts, build outputs and caches (.venv stays).
	rm -rf artifacts build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
