# Everything a developer does. `make` alone lists the targets; `.ci/run` is `make test`.

VENV := .venv
PY := $(VENV)/bin/python
# The environment is good for exactly these two files and this script: another hash, another install.
KEY := $(shell cat constraints.txt pyproject.toml tools/venv.sh | sha256sum | cut -c1-16)
STAMP := $(VENV)/.stamp-$(KEY)
PEERS_KEY := $(shell cat tests/benchmarks/peers/constraints.txt tests/benchmarks/peers/venv.sh | sha256sum | cut -c1-16)
PEERS_STAMP := .venv-peers/.stamp-$(PEERS_KEY)

.DEFAULT_GOAL := help
.PHONY: capture-report help venv demo test lint format bench peers faults widgets docs site constraints clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

venv: $(STAMP) ## make or update .venv (PYTHON=/path/to/python3.12 picks the interpreter)

$(STAMP):
	@tools/venv.sh $(VENV) $(STAMP)

demo: $(STAMP) ## run the quickstart notebook for real: URL, a prediction, rates, the bundle
	@$(VENV)/bin/nbserve demo

test: $(STAMP) ## every check: lint, types, tests, notebooks (what CI runs)
	@tools/system_packages.sh chromium curl git podman runc
	@$(PY) -m tools.check

lint: $(STAMP) ## the quick part of `make test`: ruff and mypy
	@$(PY) -m tools.check --only lint,format,types

format: $(STAMP) ## let ruff rewrite the sources
	@$(VENV)/bin/ruff check --fix . && $(VENV)/bin/ruff format .

bench: $(STAMP) ## measure: requests/s, p50/p99, CPU per 1000 requests, cell to answer (BENCH="--quick ..." adds options)
	@tools/system_packages.sh wrk
	@$(PY) -m tests.benchmarks.run $(BENCH)

peers: $(STAMP) $(PEERS_STAMP) ## measure nbserve beside mosec, FastAPI and LitServe; writes docs/peers.md (PEERS="--quick ..." adds options)
	@tools/system_packages.sh wrk
	@$(PY) -m tests.benchmarks.peers.run $(PEERS)

$(PEERS_STAMP): | $(STAMP)
	@tests/benchmarks/peers/venv.sh .venv-peers $(PEERS_STAMP)

faults: $(STAMP) ## play every fault against a real gateway; writes docs/reliability.md (FAULTS="--rows ..." adds options)
	@$(PY) -m tests.faults.run $(FAULTS)

capture-report: $(STAMP) ## play the capture corpus and every mutant of its bundles; writes docs/capture.md
	@$(PY) -m tests.capture.report $(REPORT)

widgets: $(STAMP) ## bundle the widgets' TypeScript into nbserve/static/ (node; `pip install` does it too)
	@$(PY) labextension/hatch_build.py build

docs: $(STAMP) ## write docs/configuration.md and docs/cli.md again from the code
	@$(PY) -m tools.reference

site: $(STAMP) ## build the documentation into build/site (links and headings are checked)
	@$(PY) -m sphinx -b html -n -W --keep-going -q -d build/doctrees docs build/site
	@echo "build/site/index.html"

constraints: $(STAMP) ## write constraints.txt again from what is installed
	@$(PY) -m tools.freeze

clean: ## remove the environment, caches and build outputs
	rm -rf $(VENV) .venv-peers build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-output test-output labextension/node_modules nbserve/static
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
