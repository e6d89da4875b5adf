# make run and make test are the quick start; the rest is for developers.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test coverage lint wheel test-lowest test-large test-ray test-vllm test-gateways reproduce site bench peers clean docs/reference.md

run: $(STAMP)
	$(BIN)/python -m gsim experiment=goodput_vs_rps

# From source; tests/test_compiled.py holds the compiled build to the same results.
test: $(STAMP)
	GSIM_PURE=1 $(BIN)/python -m pytest -n 2

# The same, with what was covered; it takes twice as long.
coverage: $(STAMP)
	GSIM_PURE=1 $(BIN)/python -m pytest -n 2 --cov --cov-report=term

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# A built wheel in an empty folder must do what the checkout does.
wheel: $(STAMP)
	sh tests/wheel.sh $(BIN)/python

# The lowest versions that pyproject.toml allows, in an environment of their own. Warnings of third parties' old versions
# are no errors here.
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	$(PYTHON) tests/lowest.py > .venv-lowest/lowest.txt
	GSIM_PURE=1 .venv-lowest/bin/python -m pip install --quiet -e . pytest pytest-timeout hypothesis "simpy<5" -c .venv-lowest/lowest.txt
	GSIM_PURE=1 .venv-lowest/bin/python -m pytest -W default tests/core tests/cluster tests/metrics tests/run tests/library \
		tests/test_everywhere.py tests/cli --ignore=tests/cli/test_study_notebooks.py

# A million recorded requests.
test-large: $(STAMP)
	$(BIN)/python -m pytest -m large

# The cluster launcher, on a local Ray.
test-ray: $(STAMP)
	$(BIN)/python -m pip install --quiet -e ".[ray]"
	$(BIN)/python -m pytest -m slow

# A live vLLM on the CPU, in an environment of its own: fresh schedules compared step by step, then calibrated and judged.
test-vllm: $(STAMP)
	sh tests/vllm/schedule.sh
	sh tests/vllm/run.sh $(BIN)/python
	sh tests/vllm/gateway.sh $(BIN)/python

# Policies of ours inside LiteLLM and Ray Serve, each in an environment of its own.
test-gateways:
	sh tests/gateways/run.sh

# Speed: ours alone, against the reference engine, at scale, and against the peers that pip installs. With TRACE=FILE (a
# recorded Mooncake trace, mooncake_trace.jsonl or conversation_trace.jsonl) work C too.
bench: $(STAMP)
	$(BIN)/python -m benchmarks.work A
	$(BIN)/python -m benchmarks.work B
	$(if $(TRACE),$(BIN)/python -m benchmarks.work C $(TRACE))
	$(BIN)/python -m benchmarks.work D
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m gsim experiment=router_scalability
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.outside
	$(BIN)/python -m benchmarks.memory

peers: $(STAMP)
	$(BIN)/python -m benchmarks.peers
	$(if $(TRACE),$(BIN)/python -m benchmarks.peers C $(TRACE))

# Every figure and every claim of the paper, in minutes: results/reproduce/report.html.
reproduce: $(STAMP)
	$(BIN)/python -m gsim experiment=reproduce scale=small

# The pages of docs/ with a search that needs no network: site/index.html. A link that leads nowhere is an error.
site: $(STAMP)
	$(BIN)/python -m pip install --quiet -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

docs/reference.md: $(STAMP)
	$(BIN)/python -m gsim reference > $@

$(STAMP): pyproject.toml hatch_build.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	@$(BIN)/python -c 'import gsim; print("gsim:", gsim.compiled_why)'
	touch $(STAMP)

clean:
	rm -rf $(VENV) site results dist build .pytest_cache .mypy_cache .ruff_cache
