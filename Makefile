# make demo | make test | make docs | make lint | make bench | make hostile
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
export OMP_NUM_THREADS ?= 1
unexport PYTHONDONTWRITEBYTECODE  # importing torch takes seconds more without

.PHONY: demo test docs lint bench hostile clean

# The stamp is newer than the project's own files, so a changed dependency installs again.
$(VENV)/.installed: pyproject.toml constraints.txt $(wildcard strank/losses/native*.[ch] agl/papers/strank_synthetic/native*.[ch])
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/agl demo

test: $(VENV)/.installed
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest -n 2 --dist worksteal

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[docs]'
	touch $@

lint: $(VENV)/.installed
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .
	$(BIN)/python -m mypy

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/losses.py --quick
	$(BIN)/python benchmarks/hypergradient.py --quick
	$(BIN)/python benchmarks/epoch.py --quick
	$(BIN)/python benchmarks/side_by_side.py --quick
	$(BIN)/python benchmarks/synthetic.py --quick
	$(BIN)/python benchmarks/scale.py --quick
	$(BIN)/python benchmarks/prepare.py --quick

hostile: $(VENV)/.installed
	$(BIN)/python -m tests.hostile

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis site *.egg-info
