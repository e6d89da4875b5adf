# make run and make test are the quick start; the rest is for developers.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test lint wheel test-slow test-vllm reproduce bench clean

run: $(STAMP)
	$(BIN)/python -m gsim experiment=goodput_vs_rps

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --cov --cov-report=term

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# A built wheel in an empty folder must do what the checkout does.
wheel: $(STAMP)
	sh tests/wheel.sh $(BIN)/python

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

reproduce: $(STAMP)
	$(BIN)/python -m gsim experiment=reproduce scale=small

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) results dist build .pytest_cache .mypy_cache .ruff_cache
