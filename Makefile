# `make` alone prints this help. Everything runs in .venv, made from the pinned lock; nothing else is installed.

.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
PARITY := .venv-parity
INFRA := .venv-infra
# The newest Python there is that Stenopool runs on; name another with `make PYTHON=...`.
PYTHON ?= $(firstword $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $$p; done))
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.PHONY: help setup demo test test-s3 test-web pictures drill fuzz check reference infra-check parity bench lock clean

help: ## Print this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Stenopool needs Python 3.11 or newer: install it, or name it with make PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) has no venv module: install it (Debian: python3-venv)"; exit 1; }

# Installed in one go from hashes, then ourselves without asking for anything again.
$(VENV)/runtime: requirements.lock pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev: requirements-dev.lock $(VENV)/runtime
	$(BIN)/pip install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

setup: $(VENV)/dev ## Make .venv with everything for development

demo: $(VENV)/runtime ## Transcribe the bundled recording with the bundled model
	@$(BIN)/python samples/demo.py

# In the order of collection, in which the longest files are first (tests/conftest.py): both processes end together.
test: $(VENV)/dev ## Run all tests
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --ignore tests/web

# The same facts as against moto, of a server that is no test double; the packages are fetched once. Most of them wait
# for a server that does not answer: three processes do, and take each other's tests.
test-s3: $(VENV)/dev ## Test the object store against Ceph (Debian; 70 MB from apt, nothing is installed)
	$(BIN)/python -m tests.ceph $(BIN)/python -m pytest --numprocesses 3 --dist worksteal -k "not folder" \
		tests/storage tests/faults/test_outage.py

# A whole farm, and a browser before it, as a person uses the page; Chromium is fetched once where the PATH has none.
test-web: $(VENV)/dev ## Test the web page in Chromium (Debian: 130 MB from apt, nothing is installed)
	$(BIN)/python -m pytest tests/web

pictures: $(VENV)/dev ## Take the pictures of docs/web.md anew, in the same Chromium
	$(BIN)/python -m docs.make_pictures

# What is random in it follows from the seed that it prints: make drill DRILL_FLAGS="--seed 42 -k redis"
drill: $(VENV)/dev ## Do to the farm whatever happens to farms, at length (an hour)
	$(BIN)/python -m pytest tests/faults --drill $(DRILL_FLAGS)

fuzz: $(VENV)/dev ## Send the API what its description says is right, and wrong: make fuzz FUZZ_FLAGS=--max-time=600
	$(BIN)/python -m tests.api.fuzz $(FUZZ_FLAGS)

check: $(VENV)/dev ## Lint, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

reference: $(VENV)/dev ## Write docs/reference anew, from --help, settings and OpenAPI
	$(BIN)/python docs/make_reference.py

$(INFRA)/ready: infra/check.lock | $(BIN)/python
	@$(PYTHON) -m venv $(INFRA)
	$(INFRA)/bin/pip install --quiet --require-hashes -r infra/check.lock
	@touch $@

infra-check: $(VENV)/dev $(INFRA)/ready ## Look over images, compose, Kubernetes, alerts, Terraform
	$(BIN)/python infra/check.py

# The reference implementations have an environment of their own. openai-whisper goes in alone: it asks for a compiler of
# GPU kernels that nothing here needs.
$(PARITY)/ready: tests/references/requirements.txt | $(BIN)/python
	@$(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/pip install --quiet -r tests/references/requirements.txt
	$(PARITY)/bin/pip install --quiet --no-deps --no-build-isolation openai-whisper==20250625
	@touch $@

parity: $(VENV)/dev $(PARITY)/ready ## Compare live with the reference implementations (20 minutes; torch is large)
	$(BIN)/python bench/parity.py --peers $(PARITY)/bin/python $(PARITY_FLAGS)

bench: $(VENV)/dev $(PARITY)/ready ## Measure beside the other engines, and every part alone (90 minutes)
	$(BIN)/python bench/speed.py --peers $(PARITY)/bin/python
	$(BIN)/python bench/slots.py
	$(BIN)/python bench/many_files.py
	$(BIN)/python bench/starting.py
	$(BIN)/python bench/feeding.py --json bench/feeding.json
	$(PARITY)/bin/python bench/plot.py
	$(BIN)/python bench/preparing.py
	$(BIN)/python bench/long_recording.py

COMPILE := --quiet --universal --fork-strategy fewest --generate-hashes --no-emit-index-url --no-annotate --no-header \
	--python-version 3.11

lock: ## Pin all dependencies anew (needs uv)
	uv pip compile $(COMPILE) pyproject.toml --group build -o requirements.lock
	uv pip compile $(COMPILE) --constraint requirements.lock pyproject.toml --group dev -o requirements-dev.lock
	uv pip compile $(COMPILE) --constraint requirements.lock infra/docker/desk.in --group pyproject.toml:build -o infra/docker/desk.lock
	uv pip compile $(COMPILE) --constraint requirements.lock infra/docker/cuda.in -o infra/docker/cuda.lock
	uv pip compile $(COMPILE) infra/check.in -o infra/check.lock

clean: ## Remove both environments, caches and the demo's output
	rm -rf $(VENV) $(PARITY) $(INFRA) .demo out .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
