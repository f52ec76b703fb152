# The commands of the project; README.md says what they are for.
PYTHON ?= python3
VENV ?= .venv
VAR ?= var
PORT_OFFSET ?= 0
ROUNDS ?= 20
CUTS ?= 2
SEED ?= 1
N ?= 200000
JOBS ?= auto
RELAY := $(VENV)/bin/relay

.PHONY: run test check interop bench bench-all bench-docs crash crash-selftest attack demo-failover fuzz format clean

run: $(VENV)/.installed
	@$(RELAY) init --sandbox --var '$(VAR)' --port-offset $(PORT_OFFSET)
	@exec $(RELAY) --config '$(VAR)/relay.toml' serve --port-offset $(PORT_OFFSET)

test: $(VENV)/.developed check
	$(VENV)/bin/pytest --numprocesses $(JOBS) --dist loadfile

check: $(VENV)/.developed
	$(VENV)/bin/ruff check relay tests bench
	$(VENV)/bin/ruff format --check relay tests bench
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

interop: $(VENV)/.installed
	tests/interop/run --relay $(RELAY)

bench: $(VENV)/.installed
	$(VENV)/bin/python -m bench

bench-all: $(VENV)/.installed
	$(VENV)/bin/python -m bench --all

bench-docs: $(VENV)/.installed
	$(VENV)/bin/python -m bench.publish bench-work/figures.json

crash: $(VENV)/.installed
	$(VENV)/bin/python tests/crash/run.py --rounds $(ROUNDS) --cuts $(CUTS) --seed $(SEED)

crash-selftest: $(VENV)/.installed
	$(VENV)/bin/python tests/crash/selftest.py

attack: $(VENV)/.installed
	$(VENV)/bin/python -m bench.attack

demo-failover: $(VENV)/.installed
	$(VENV)/bin/python tests/failover/run.py

fuzz: $(VENV)/.developed
	@$(VENV)/bin/python -c 'import atheris' 2>/dev/null || $(VENV)/bin/pip --disable-pip-version-check install --quiet --editable '.[fuzz]'
	$(VENV)/bin/python tests/fuzz/run.py --inputs $(N)

format: $(VENV)/.developed
	$(VENV)/bin/ruff check --fix relay tests bench
	$(VENV)/bin/ruff format relay tests bench

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .import_linter_cache interop-work bench-work fuzz-work

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV) || \
	    { rm -rf $(VENV); echo "make: Python cannot make a virtual environment: apt-get install python3-venv" >&2; exit 2; }

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV); the first time takes a minute."
	@$(VENV)/bin/pip --disable-pip-version-check install --quiet --editable .
	@touch $@

$(VENV)/.developed: pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV), with what the tests need; the first time takes a minute."
	@$(VENV)/bin/pip --disable-pip-version-check install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.installed
