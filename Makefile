# One entry for everything. `make` alone lists the targets; each makes .venv itself when it needs it.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RUN    := $(BIN)/python
STAMP  := $(VENV)/.installed
DOCS   := $(VENV)-docs
DOCS_STAMP := $(DOCS)/.installed

# onnxruntime and onnxruntime-gpu install the same module, so exactly one of them: RUNTIME=cpu or gpu.
RUNTIME ?= $(if $(wildcard /dev/nvidia0),gpu,cpu)
GROUPS  := server tfserving export signing client web perf training test $(RUNTIME) $(if $(shell command -v cc),,compiler)

ARGS ?=
# Tests wait for servers more than they compute. A file stays in one process: its tests share its servers.
WORKERS ?= 4
# Threads of several workers would only wait for each other, which PyTorch's do at full speed.
TEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) --dist loadfile
MODEL ?= text_recognizer

.DEFAULT_GOAL := help
.PHONY: help setup demo serve web export test test-all test-long test-containers chaos sanitize conformance trt-parse throughput perf train evaluate lint docs clean

help: ## list the targets
	@echo "triton-vision: image recognition on NVIDIA Triton. Targets:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Variables: PYTHON=python3.12 (3.10 to 3.12), RUNTIME=cpu|gpu (here: $(RUNTIME)), WORKERS=4, ARGS='more arguments'"

setup: $(STAMP) ## make .venv with everything (about 2 GB with a CPU build of torch)

demo: $(STAMP) export ## export, serve, recognise real photographs, print
	@$(RUN) demo.py $(ARGS)

serve: $(STAMP) export ## start Triton on model_repository/ and stay
	@$(RUN) -m server $(ARGS)

# The page shows how the server comes up, and is the one that Ctrl-C and its own failure end; the server then stops as well.
web: $(STAMP) export ## start Triton and a page to try it in a browser; ARGS='--port 8081'
	@$(RUN) -m server & server=$$!; trap 'kill $$server 2> /dev/null; wait $$server' EXIT; trap : INT TERM; \
	$(RUN) -m client web $(ARGS)

# On a processor without fast INT8 the sibling is slower than FP32: it says so, and setting up does not fail for it.
export: $(STAMP) ## PyTorch weights to verified models in model_repository/; ARGS=-v says what was checked
	@$(RUN) -m export --all --allow-slower --quiet $(if $(filter export,$(MAKECMDGOALS)),$(ARGS))

test: $(STAMP) export ## the tests, against a real server; WORKERS=0 for one after the other
	$(TEST) $(ARGS)

test-all: $(STAMP) export ## the tests, and the slow ones among them: what CI runs
	$(TEST) -m 'not long and not containers and not chaos' $(ARGS)

test-long: $(STAMP) export ## the long ones alone: TensorFlow, bare environments, commands of minutes
	$(TEST) -m 'long and not chaos' $(ARGS)

test-containers: $(STAMP) export ## docker-compose.yml as it is, on a Docker engine that has the images (about 5 minutes)
	OMP_NUM_THREADS=1 $(RUN) -m pytest tests/containers -m containers $(ARGS)

# One case after the other, as each has the machine to itself; each says what was sent, answered, refused and lost.
chaos: $(STAMP) export ## kill, stop, flood and overload servers behind a gateway, under load (about 25 minutes)
	OMP_NUM_THREADS=1 $(RUN) -m pytest tests/chaos -m chaos --timeout 1800 $(ARGS)

sanitize: $(STAMP) ## the native half with ASan and UBSan: its tests, 10,000 hostile requests, 2,000 hostile files
	FUZZ_REQUESTS=10000 FUZZ_MODELS=2000 TRITON_VISION_NATIVE=sanitize \
		$(RUN) -m pytest -m "not long" tests/backend tests/fuzz --timeout 7200 $(ARGS)

conformance: $(STAMP) ## every ONNX node test through the served backend (about 15 minutes)
	$(RUN) -m pytest -m "not long" tests/serving/test_conformance.py --conformance=all $(ARGS)

trt-parse: $(STAMP) export ## every exported graph through TensorRT-RTX's parser and builder; needs no GPU (about 10 minutes)
	$(RUN) -m pytest -m trt tests/export/pipelines/plans $(ARGS)

throughput: $(STAMP) export ## served against in-process throughput, side by side (about 2 minutes)
	@$(RUN) -m perf throughput $(ARGS)

perf: $(STAMP) export ## load, comparison and capacity in short, and the report (about 15 minutes)
	@$(RUN) -m perf all $(ARGS)

train: $(STAMP) ## train a text model: MODEL=text_recognizer or text_stream (an hour on one core)
	@$(RUN) -m training $(MODEL) $(ARGS)

evaluate: $(STAMP) ## error rates of a text model beside other readers: MODEL=...
	@$(RUN) -m training evaluate $(MODEL) $(ARGS)

lint: $(STAMP) export ## style, imports, types; configs, graphs and copies against their sources; traps in models
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/mypy
	for model in $(dir $(wildcard model_repository/*/1/model.py)); do MYPYPATH=$$model $(BIN)/mypy $$model*.py || exit 1; done
	! command -v cc > /dev/null || cc -std=gnu11 -Wall -Wextra -Werror -fsyntax-only server/backends/onnxruntime/native/*.c
	$(RUN) -m export --check
	$(RUN) -m export lint

docs: $(DOCS_STAMP) ## the pages as a site in .site/index.html; a dead link fails it
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --quiet --strict $(ARGS)
	@echo "the site is .site/index.html"

clean: ## remove .venv, caches and exported graphs; downloads in the user's cache stay
	rm -rf $(VENV) $(DOCS) .site .pytest_cache .ruff_cache .mypy_cache perf/out/* model_repository/*/configs/tensorrt*.pbtxt
	rm -f model_repository/*/[0-9]*/*.onnx model_repository/*/[0-9]*/*.plan
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find model_repository -mindepth 2 -maxdepth 2 -type d -name '[0-9]*' -empty -delete

# A step of setting up: one line with its time; what the command said only if it failed, then all of it.
# $(1): what to call it, $(2): the command
define step
printf '  %s ... ' "$(1)"; began=$$(date +%s); said=$$(mktemp); \
if $(2) > "$$said" 2>&1; then echo "$$(( $$(date +%s) - began )) s"; rm -f "$$said"; \
else code=$$?; echo "failed"; cat "$$said"; rm -f "$$said"; exit $$code; fi
endef

# pip 25.1 was the first to install dependency groups. Without the native half all is served, slower.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 12) else f"Python {v[0]}.{v[1]} will not do: pip Triton needs numpy 1.26, which exists for 3.10 to 3.12; use make PYTHON=python3.x")'
	@echo "setting up $(VENV) with $$($(PYTHON) --version), groups: $(GROUPS)"
	@test -x $(RUN) || { $(call step,virtual environment,$(PYTHON) -m venv $(VENV)); }
	@$(call step,pip,$(RUN) -m pip install --upgrade 'pip>=25.1')
	@$(call step,packages (some minutes),$(RUN) -m pip install $(addprefix --group=,$(GROUPS)))
	@-$(call step,native half of the ONNX Runtime backend,$(RUN) -I server/environment/native.py)
	@touch $@

$(DOCS_STAMP): pyproject.toml
	@test -x $(DOCS)/bin/python || { $(call step,virtual environment for the site,$(PYTHON) -m venv $(DOCS)); }
	@$(call step,pip,$(DOCS)/bin/python -m pip install --upgrade 'pip>=25.1')
	@$(call step,mkdocs-material,$(DOCS)/bin/python -m pip install --group=docs)
	@touch $@
