# make install | demo | test | test-fast | lint | docs | notebooks. Each installs what it needs into .venv; nothing else on the machine changes.
# Another Python: make PYTHON=python3.12 install

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PEERS := benchmarks/accuracy/.venv-peers
SPEED := benchmarks/speed
SPEED_PEERS := $(SPEED)/.venv-fuxictr $(SPEED)/.venv-torch-rechub
SOURCES := src tests docs benchmarks
# What pytest is told, for example: make test TESTS=tests/models WORKERS=4; a worker takes up to 2 GiB
TESTS ?=
# A file's tests stay with one worker, so that what they share is made once. There are as many workers as cores, so that each
# computes with one thread: two would wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --dist loadfile
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 8 ? n : 8)))

.PHONY: help install demo demo-docs test test-fast lint format docs notebooks site benchmark-accuracy benchmark-prepare benchmark-speed benchmark-serving clean
.DELETE_ON_ERROR:

help:
	@echo "make install    the package with all that development needs, into .venv"
	@echo "make demo       a real log, learned scenarios, an honest table and demo/report.html: minutes, most of them to install"
	@echo "make test       the tests; REQUIRE_ALL=1 fails where something optional (Chromium) is missing"
	@echo "make test-fast  without those marked slow: about three minutes on two free cores"
	@echo "make lint       ruff and mypy"
	@echo "make docs       what is generated in docs/ and configs/schema.json"
	@echo "make notebooks  runs docs/notebooks again, each in a folder of its own below build/: about a quarter of an hour"
	@echo "make site       the docs as a site, build/site/index.html"
	@echo "make benchmark-accuracy  our baselines beside a public implementation, twelve seeds: an hour or more on a free core"
	@echo "make benchmark-prepare  preparing 20 million events beside sorting them once: about ten minutes on two free cores"
	@echo "make benchmark-speed  training speed beside other implementations: about a quarter of an hour on two free cores"
	@echo "make benchmark-serving   milliseconds to score 500 candidates, beside a public implementation, and files of pages of ten: a few minutes"
	@echo "make demo-docs  the same, with the output that docs/start-here.md shows taken from a new demo"

install: $(VENV)/.installed-dev

demo: $(VENV)/.installed-report
	$(BIN)/musenet demo configs/demo.yaml --out demo

test: $(VENV)/.installed-dev
	$(PYTEST) -n $(WORKERS) $(TESTS)

test-fast: $(VENV)/.installed-dev
	$(PYTEST) -n $(WORKERS) -m "not slow" $(TESTS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

docs: $(VENV)/.installed-dev
	$(BIN)/python docs/refresh.py

# What they write stays beside the copies that are executed.
notebooks: $(VENV)/.installed-dev
	$(PIP) -c constraints.txt ipykernel nbclient
	rm -rf build/notebooks
	set -e; for name in $(basename $(notdir $(wildcard docs/notebooks/*.ipynb))); do \
	  mkdir -p build/notebooks/$$name; cp docs/notebooks/$$name.ipynb build/notebooks/$$name; \
	done
	$(BIN)/jupyter-execute --inplace build/notebooks/*/*.ipynb
	cp build/notebooks/*/*.ipynb docs/notebooks

site: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# Runs that a demo finished are not trained again, so this is quick after `make demo`.
demo-docs: $(VENV)/.installed-dev
	$(BIN)/musenet demo configs/demo.yaml --out demo --json | $(BIN)/python docs/refresh.py --demo -

# Finished runs are not trained again. The peers' package stays out of musenet's own environment.
benchmark-accuracy: $(VENV)/.installed-report $(PEERS)/.installed data/hotels-accuracy
	$(BIN)/python benchmarks/accuracy/peers.py benchmarks/accuracy/hotels.yaml --python $(PEERS)/bin/python

# Ratios are told, so nothing else should run meanwhile. DeepCTR-Torch is that of benchmark-accuracy.
benchmark-speed: $(VENV)/.installed-report $(PEERS)/.installed $(SPEED_PEERS:%=%/.installed) data/hotels-accuracy
	PYTHONPATH=benchmarks/accuracy $(BIN)/python $(SPEED)/speed.py --out runs/speed
benchmark-serving: $(VENV)/.installed-dev $(PEERS)/.installed
	$(BIN)/python benchmarks/serving/scoring.py --python $(PEERS)/bin/python
	$(BIN)/python benchmarks/serving/batch.py

data/hotels-accuracy: | $(VENV)/.installed-report
	$(BIN)/musenet simulate hotels --out $@ --impressions 200000 --seed 7

# Twice as much again measures how memory, disk and time grow: benchmarks/prepare/prepare_speed.py growth.
benchmark-prepare: $(VENV)/.installed-report
	$(BIN)/python benchmarks/prepare/prepare_speed.py ratio

clean:
	rm -rf $(VENV) $(PEERS) $(SPEED_PEERS) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# A stamp says that the extras are there, so that nothing is resolved twice. dev comes with all that report holds, and with Spark and
# TorchRec, which its tests need; TorchRec alone asks for the CUDA build of fbgemm, whose CPU build the extra cluster brings.
$(VENV)/.installed-report: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV): a few minutes the first time, most of them for PyTorch"
	$(PIP) -c constraints.txt -e '.[train,serve,report,demo]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV): a few minutes the first time, most of them for PyTorch"
	$(PIP) -c constraints.txt -e '.[train,serve,report,demo,spark,cluster,tracking,cloud,docs,dev]'
	$(PIP) -c constraints.txt --no-deps torchrec
	@touch $@ $(VENV)/.installed-report

$(PEERS)/.installed: benchmarks/accuracy/requirements.txt | $(BIN)/python
	@echo "installing into $(PEERS): a few minutes the first time, most of them for PyTorch"
	$(BIN)/python -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(SPEED)/.venv-%/.installed: $(SPEED)/requirements-%.txt | $(BIN)/python
	@echo "installing into $(@D): a few minutes the first time, most of them for PyTorch"
	$(BIN)/python -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "musenet needs Python 3.11 or newer: name one with make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
