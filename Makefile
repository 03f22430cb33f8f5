# make fit   install, train the quickstart model (five to fourteen minutes on two CPU cores) and show what it suggests;
#            ARGS='--model.lr 1e-3 ...' changes options
# make gpu   the tests and benchmarks that need a GPU, in thirteen minutes at most, and their page
#            tests/benchmarks/results/gpu.md; PYTHON=... is used as it is if its torch finds one
# make test  run the tests, on all cores there are          make lint  ruff, mypy, and which module may import which
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# what is imported is compiled once and kept, also where the environment says otherwise, as in many containers: else each
# process compiles torch and what it brings anew (`time python -c 'import generator.main'`, AMD EPYC: 25 s of a core, with
# it 10)
export PYTHONDONTWRITEBYTECODE =

.PHONY: fit gpu test lint format clean

fit: $(VENV)/.installed
	$(BIN)/python -m generator.main fit --config configs/quickstart.yaml $(ARGS)

gpu:
	@if $(PYTHON) -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then \
		PYTHONPATH=. $(PYTHON) tests/benchmarks/gpu_page.py $(ARGS); \
	else \
		$(MAKE) --no-print-directory $(VENV)/.installed && PYTHONPATH=. $(BIN)/python tests/benchmarks/gpu_page.py $(ARGS); \
	fi

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV)

# installs once, and again when what is installed changes; Python compiles what is imported when it is, which is little
# of all that pip would compile
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $@
