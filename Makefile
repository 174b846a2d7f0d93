# The commands of this repository. `make demo` and `make test` set up everything they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: help demo test slow faults lint types check docs building-model clean

help:
	@echo "make demo   the whole pipeline on a synthetic town, offline, into demo/"
	@echo "make test   the tests"
	@echo "make slow   the tests that take long, too"
	@echo "make faults damaged and hostile files, kills, full disks: many of them"
	@echo "make check  lint, types and tests, as CI does"
	@echo "make docs   the documentation, into site/"
	@echo "make building-model DATA=… WEIGHTS=… OUT=…   trains the model that ships, anew"

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,openvino,cluster,remote,view,dev]'
	@touch $@

$(VENV)/.docs: $(VENV)/.ready
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

demo: $(VENV)/.ready
	rm -rf demo
	$(BIN)/satmask demo --out demo

test: $(VENV)/.ready
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

slow: $(VENV)/.ready
	$(BIN)/python -m pytest -m "slow or not slow"

faults: $(VENV)/.ready
	$(BIN)/python -m pytest tests/faults

lint: $(VENV)/.ready
	$(BIN)/ruff check src tests benchmarks tools
	$(BIN)/ruff format --check src tests benchmarks tools

types: $(VENV)/.ready
	$(BIN)/mypy

check: lint types test

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict --site-dir site

# What docs/models/buildings.md tells of: three runs that begin alike, a branch of a fourth, and the average of their weights. DATA holds
# buildings/{train,val} in the crowdAI layout, WEIGHTS is MobileNetV2. Given again after an interruption, it goes on. The shipped
# files are only replaced by what `tools/ship_model.py` is told to take.
OUT ?= building-model
RUNS := $(addprefix $(OUT)/,kept learned quick branch)
IMAGENET := --set network.weights=$(WEIGHTS)
learned_SETTINGS := $(IMAGENET)
kept_SETTINGS := $(IMAGENET) --set network.frozen=5 --set sampling=boundaries --set epochs=11
quick_SETTINGS := $(IMAGENET) --set network.frozen=5 --set learning_rate=1e-3 --set epochs=7
trunk_SETTINGS := $(IMAGENET) --set network.frozen=5 --set sampling=boundaries --set epochs=1
branch_SETTINGS := --start $(OUT)/trunk --set sampling=boundaries --set learning_rate=1e-3 --set epochs=3 --set seed=1

$(OUT)/joined: | $(VENV)/.ready
	$(BIN)/satmask join $(DATA)/buildings $@
	cp $@/legend.toml $@/val/

.PHONY: $(RUNS) $(OUT)/trunk
$(OUT)/branch: $(OUT)/trunk
$(RUNS) $(OUT)/trunk: $(OUT)/joined
	$(BIN)/satmask train $(OUT)/joined --out $@ $(if $(wildcard $@/recipe.json),--resume,--recipe recipes/building-model.toml $($(notdir $@)_SETTINGS) $(OPTIONS))

building-model: $(RUNS)
	rm -rf $(OUT)/average
	$(BIN)/satmask average $(OUT)/joined $(RUNS) --out $(OUT)/average
	cp $(OUT)/average/model.onnx $(OUT)/buildings.onnx; cp $(OUT)/average/model.keras $(OUT)/buildings.keras
	$(BIN)/satmask tune $(OUT)/buildings.onnx $(OUT)/joined/val --only upsampling
	$(BIN)/satmask calibrate $(OUT)/buildings.onnx $(OUT)/joined/val
	$(BIN)/satmask tune $(OUT)/buildings.onnx $(OUT)/joined/val --for iou --only threshold --least-gain 0
	$(BIN)/satmask tune $(OUT)/buildings.onnx $(OUT)/joined/val --for ap50 --only area,separate
	$(BIN)/satmask quantize $(OUT)/buildings.onnx --calibrate $(OUT)/joined --weights float16

clean:
	rm -rf $(VENV) demo site
