# Every command sets up what it needs in .venv, from pyproject.toml alone. PYTHON=python3.12 chooses another one.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help compare lab scale waiting hostile speed threads regress steps watching fuzz docs test check coverage clean

help:
	@echo "make compare   the models side by side under real HTTP load: a page with figures, and what they say (3 minutes)"
	@echo "make lab       all that the lab can do: make lab ARGS='doctor', ARGS='run starve', ARGS='run readme --budget 1h' ..."
	@echo "make scale     more connections than threads, more cores than one process uses: what parking, an event loop and"
	@echo "               processes do about it, claim by claim (8 minutes)"
	@echo "make waiting   the ways in which threads can wait on one listen socket, compared (1 minute)"
	@echo "make hostile   clients that try to hold every thread, against each model (9 minutes)"
	@echo "make speed     what a request costs, here and in other servers, claim by claim (10 minutes; needs wrk)"
	@echo "make threads   how many threads, which model, switch interval and so on: CPU for a request, and the slowest answers"
	@echo "               (6 minutes; needs wrk)"
	@echo "make regress   is the working tree slower than HEAD? make regress A=v1 B=v2 compares two commits (3 minutes)"
	@echo "make steps     the steps of a request one by one, without a network (10 seconds)"
	@echo "make watching  what it costs a server to be watched: CPU for each request (3 minutes; needs wrk)"
	@echo "make fuzz      made-up bytes at everything that reads clients, proxies and handlers (6 minutes; Linux on x86-64)"
	@echo "make docs      the site of the documentation, into site/ (10 seconds); make docs ARGS=serve shows it while you write"
	@echo "make test      everything a change must pass: ruff, mypy --strict, pytest"
	@echo "make check     ruff and mypy only"
	@echo "make coverage  the tests again, with the lines and branches they miss"
	@echo "make clean     remove what the commands above have made"

compare: $(VENV)/bench
	@$(BIN)/python -m bench run quick $(ARGS)

lab: $(VENV)/bench
	@$(BIN)/python -m bench $(or $(ARGS),--help)

scale: $(VENV)/bench
	@$(BIN)/python -m bench scale $(ARGS)

waiting: $(VENV)/bench
	@$(BIN)/python -m bench waiting $(ARGS)

hostile: $(VENV)/bench
	@$(BIN)/python -m bench hostile $(ARGS)

speed: $(VENV)/built-peers
	@$(BIN)/python -m bench speed $(ARGS)

threads: $(VENV)/test
	@$(BIN)/python -m bench threads $(ARGS)

regress: $(VENV)/test
	@$(BIN)/python -m bench regress $(if $(A)$(B),$(or $(A),HEAD) $(B)) $(ARGS)

steps: $(VENV)/test
	@$(BIN)/python -m bench steps $(ARGS)

watching: $(VENV)/test
	@$(BIN)/python -m bench watching $(ARGS)

fuzz: $(VENV)/fuzz
	@$(BIN)/python -m fuzz $(ARGS)

# The theme announces in a box that it is kept up until May 2027, and that its successor reads the same mkdocs.yml.
docs: $(VENV)/docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs $(or $(ARGS),build --strict)
	@$(if $(ARGS),,echo "site/index.html is the entrance (its search wants a server: make docs ARGS=serve)")

# A process of pytest for each core: half of the tests wait for a clock or a client most of the time.
test: check
	@$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

check: $(VENV)/test
	@$(BIN)/ruff check .
	@$(BIN)/mypy

coverage: $(VENV)/test
	@$(BIN)/coverage run -m pytest
	@$(BIN)/coverage report

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage build site *.egg-info bench/results fuzz/findings
	find . -name __pycache__ -type d -exec rm -rf {} +

# One environment; each stamp says which extra of pyproject.toml is installed in it.
$(VENV)/test $(VENV)/bench $(VENV)/peers $(VENV)/fuzz $(VENV)/docs: $(VENV)/%: pyproject.toml | $(VENV)/pyvenv.cfg
	@echo "Installing what '$*' needs into $(VENV) (once; under a minute)..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

# Not in the extra, so that where one cannot be built all others are there all the same.
$(VENV)/built-peers: $(VENV)/peers
	@for each in bjoern fastwsgi; do \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check $$each >/dev/null 2>&1 || \
	  echo "$$each cannot be installed, and is left out. Building it takes apt install build-essential libev-dev"; done
	@touch $@

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, and $(PYTHON) is not; say make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
