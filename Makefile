# make demo: the sample catalogue, rendered the way a nightly job goes.   make test: every test that needs no GPU.
# make check: format, lint, types, lock.   make bench: benchmarks side by side, kept in benchmarks/RESULTS.md.
# make mutants: do the adapters' tests notice wrong inputs and outputs? Some minutes; not a part of CI.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
PLATFORMS := x86_64-manylinux_2_28 aarch64-manylinux_2_28 aarch64-apple-darwin

.PHONY: demo test check bench mutants format lock

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "uv==$$(sed -n 's/^uv==\([^ ]*\).*/\1/p' requirements.lock)"
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

demo: $(VENV)/.installed
	$(BIN)/packshot demo

# Two workers, a thread each, since most tests keep one core; a file's tests share a worker, and what is set up for them.
test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

check: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	! grep -nE '://|--index|--find-links|^ *-e' requirements.lock
	for platform in $(PLATFORMS); do \
	    MACOSX_DEPLOYMENT_TARGET=14.0 $(BIN)/uv pip compile --quiet --python-version 3.11 --python-platform $$platform \
	        requirements.lock -o /dev/null || exit 1; \
	done

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks.run

mutants: $(VENV)/.installed
	$(BIN)/python -m tests.mutants

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock:
	$(BIN)/uv pip compile --quiet --universal --no-header --extra demo --extra dev pyproject.toml -o requirements.lock
