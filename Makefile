# Two commands do everything on a fresh machine with Python >= 3.11 and pip: `make demo` and `make test`.
SHELL := /bin/bash
# Threads that wait for others of their team sleep instead of spinning: where a core is taken by
# somebody else, spinning made torch up to eight times slower.
export OMP_WAIT_POLICY ?= PASSIVE
.DELETE_ON_ERROR:
.PHONY: demo test test-peers lint bench browser clean

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
BIN := .venv/bin
PEERS := .venv-peers/bin

demo: .venv/ready
	$(BIN)/evalsuite demo --out demo

test: .venv/ready browser lint
	$(BIN)/python -m pytest -m "not peers" --cov --cov-report=term
	$(MAKE) test-peers

test-peers: .venv-peers/ready
	$(PEERS)/python -m pytest -m peers tests

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/ready .venv-peers/ready
	$(PEERS)/python -m benchmarks

# The browser that the report's tests drive: an installed one, else Debian's package, else an error.
browser:
	@.ci/browser

.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "evalsuite needs Python 3.11 or newer; set PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -e ".[models,metrics,generators,endpoints,local,privacy,presidio,tune,umap,ray,s3,mlflow,wandb,demo,docs,dev]"
	touch $@

# Peers need an older scipy: an environment on top of .venv, which holds only what differs.
.venv-peers/ready: .venv/ready
	test -x $(PEERS)/python || $(PYTHON) -m venv .venv-peers
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$$($(PEERS)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/under.pth"
	$(PEERS)/python -m pip install -q -e ".[peers]"
	touch $@

clean:
	rm -rf .venv .venv-peers demo build dist *.egg-info
