# Everything happens in .venv, which these targets make for themselves.
# A mirror, or any other option of pip:  make demo PIP_ARGS="-i https://pypi.tuna.tsinghua.edu.cn/simple"
PYTHON ?= python3
PIP_ARGS ?=
DEMO_ARGS ?=
BIN := .venv/bin

.PHONY: demo test notebooks jupyter format clean

demo: .venv/demo
	$(BIN)/gptlab demo $(DEMO_ARGS)

test: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

notebooks: .venv/dev
	$(BIN)/python notebooks/build.py

jupyter: .venv/jupyter
	$(BIN)/jupyter lab notebooks

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .pytest_cache .ruff_cache build *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("gptlab needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv

.venv/demo: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e ".[plots]"
	@touch $@

.venv/dev: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e ".[dev]"
	@touch $@

.venv/jupyter: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e ".[notebooks]"
	@touch $@
