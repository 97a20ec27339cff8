# Two commands, each from nothing as an ordinary user: `make demo` and `make test`.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DOCS   := $(VENV)/.docs
PIP    := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt

export OMP_NUM_THREADS ?= 1

.PHONY: help setup demo full figure-4 gpu test docs commands lint format clean

help:
	@echo "make demo    turbulent ignition by CVODE, by the exact integrator and by a network: a table and a picture"
	@echo "make full    the same at full size by six kinds of chemistry: an hour, goes on where it was interrupted"
	@echo "make figure-4  the same by the networks of \`chemnet reproduce table-1\`"
	@echo "make gpu     what only a GPU can do: the published experiment whole, and more"
	@echo "make test    lint, types, pages and tests"
	@echo "make docs    the pages as one site, build/docs/index.html"
	@echo "make commands  every command of README and pages, in a fresh clone: more than an hour"
	@echo "make lint    the first two;  make format  applies the formatter"
	@echo "make setup   only builds $(VENV);  make clean  removes it and the caches"

setup: $(READY)

# The stamp, not the folder, says that the set-up is complete: an interrupted one is taken up again.
# torch comes first and alone: of its wheels for one version pip takes that for CPUs where it finds one, and then asks
# for no CUDA packages (see README.md).
$(READY): pyproject.toml constraints.txt
	@echo "setting up $(VENV) (one to two minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --no-deps --retries 0 torch
	@$(PIP) -e '.[mpich,plot,onnx,vision,test]'
	@touch $@

# The same flame three times, each on two ranks: by CVODE, by the exact integrator, and by the network.
RUN  = $(BIN)/mpiexec -n 2 $(BIN)/python -m cfd_coupling run cases/turbulent_ignition --variant demo --overwrite
RUNS = runs/turbulent_ignition-demo

demo: $(READY)
	$(RUN) --set chemistry.kind=cvode
	$(RUN) --set chemistry.kind=exact
	$(RUN) --set chemistry.kind=neural
	$(BIN)/chemnet compare flow $(RUNS)-cvode $(RUNS)-exact $(RUNS)-neural --picture runs/demo.png

# The whole case, 512 x 512 cells to 1 ms, by each kind of chemistry; a run that is there is gone on with, or left. Other
# flames, and fewer kinds: make full FLAME=phi-0.8 CHANGES='--set mixture.phi=0.8' KINDS='exact small'
FLAME   = full
CHANGES =
KINDS   = cvode exact original stage3 condensed small
WHOLE   = $(BIN)/mpiexec -n 2 $(BIN)/python -m cfd_coupling run cases/turbulent_ignition $(CHANGES)
FOLDERS = $(KINDS:%=runs/$(FLAME)/%)
by      = $(if $(filter exact cvode,$(1)),chemistry.kind=$(1),chemistry.kind=neural --set chemistry.model=$(model))
model   = $(or $(MODEL_$(1)),drm19-$(1))

full: $(KINDS:%=full-%)
	$(BIN)/chemnet compare flow $(FOLDERS) --picture runs/$(FLAME)/compare.png --json runs/$(FLAME)/compare.json --overwrite
	$(if $(filter exact,$(KINDS)),$(BIN)/chemnet compare flow runs/$(FLAME)/exact $(filter-out %/exact,$(FOLDERS)))

full-%: $(READY)
	$(WHOLE) --out runs/$(FLAME)/$* --set $(call by,$*) $(if $(wildcard runs/$(FLAME)/$*/checkpoints/*.h5),--resume)

# Figure 4 of the condensation paper: this flame by CVODE, by the networks of `chemnet reproduce table-1`, and by the
# small network that was trained directly.
SEED = runs/table-1/seed-0

figure-4:
	$(MAKE) full FLAME=figure-4 KINDS='cvode original reduced control' MODEL_original=$(SEED)/original \
	    MODEL_reduced=$(SEED)/thresholds/stage-3 MODEL_control=$(SEED)/control/stage-3

# What only a GPU can do, meant for nine minutes on one H100 or H200 (not measured yet), below runs/gpu: tests of its path, the published
# experiment whole, its network's throughput, more training of drm19-original. Rehearsed on a CPU by
#     make gpu DEVICE=cpu SCALE=0.001 MORE=0.2 BATCH=1024
# Where nothing can be installed: PYTHONPATH=FOLDER_OF_PACKAGES make gpu RUNS_ON=python3
DEVICE  = cuda
SCALE   = 1
MORE    = 1.5
BATCH   = 65536
RUNS_ON = $(BIN)/python
STATES  = datasets/drm19/states.h5
CHEMNET = $(RUNS_ON) -m chemnet

gpu: $(if $(filter $(BIN)/%,$(RUNS_ON)),$(READY))
	$(RUNS_ON) -m pytest -q tests/training/test_steps.py
	$(CHEMNET) reproduce table-1 --scale $(SCALE) --device $(DEVICE) --data $(STATES) --out runs/gpu/table-1
	$(CHEMNET) bench training --config paper --device $(DEVICE) --precision bf16 --batch $(BATCH) \
	    --json runs/gpu/training.json --overwrite
	$(CHEMNET) train --config drm19 --start-from drm19-original --max-minutes $(MORE) --device $(DEVICE) \
	    --data $(STATES) --out runs/gpu/drm19-original $(if $(wildcard runs/gpu/drm19-original/last.pt),--resume)

# What is tracked, and not what a user keeps in the checkout; without git, all.
TRACKED := $(wildcard $(shell git ls-files '*.py' 2>/dev/null))

lint: $(READY)
	@$(BIN)/ruff check $(or $(TRACKED),.)
	@$(BIN)/ruff format --check $(or $(TRACKED),.)
	@$(BIN)/mypy $(filter chemnet/% cfd_coupling/%,$(TRACKED))

format: $(READY)
	@$(BIN)/ruff format $(or $(TRACKED),.)
	@$(BIN)/ruff check --fix $(or $(TRACKED),.)

# Its packages come with the first build, so that nobody else waits for them. A warning, such as a link to nowhere, fails it.
$(DOCS): $(READY)
	@$(PIP) -e '.[docs]'
	@touch $@

docs: $(DOCS)
	@$(BIN)/python -m sphinx -q -W --keep-going -c docs -d build/doctrees . build/docs
	@echo "build/docs/index.html"

# Every command of the README and of the pages, in a clone below runs/: more than an hour.
commands: $(READY)
	$(BIN)/python tests/documented_commands.py

test: lint docs
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
