# `make` lists the targets. Each target sets up the virtual environment and the control plane if it needs them.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Only what the image has, for measurements.
LEAN   := .venv-lean
# With PYTHONDONTWRITEBYTECODE set, each worker and each operator would compile all imports again, which takes seconds.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
SPREAD := --numprocesses=auto --dist=loadgroup --failed-first

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast bench mutants worlds image image-test test-cluster test-prometheus check format generate recording dashboard-picture lock release venv clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY)  ## show what the operator does, on a real API server and an emulated Vercel (KEEP=1: leave everything up; MORE=1: a missing DNS record and an upload too)
	@$(BIN)/python hack/demo.py $(if $(KEEP),--keep) $(if $(MORE),--more)

test: $(READY)  ## run all tests that need only this machine, in parallel (T="-k name": some; T=-n0: in one process)
	@$(if $(T),,$(BIN)/python hack/tools.py >/dev/null)
	@$(PYTEST) $(SPREAD) $(T)

test-fast: $(READY)  ## run the tests that need no control plane and start few processes, for the edit loop
	@$(PYTEST) $(SPREAD) -m fast $(T)

bench: $(READY) $(if $(OPERATOR_PYTHON),,$(LEAN)/.ready)  ## measure what the operator costs, and the same controller in Go (N="1000 5000 10000": for so many certificates; OPERATOR_PYTHON=/path/to/python: to run the operator with)
	@PYTHONPATH=hack $(BIN)/python benchmarks/bench.py --python $(or $(OPERATOR_PYTHON),$(LEAN)/bin/python) $(N)

mutants: $(READY)  ## find what can be changed in the core without a failing test (N=50: so many, chosen at random; SINCE=main: in changed lines)
	@$(BIN)/python hack/mutants.py $(if $(N),--sample $(N)) $(if $(SINCE),--since $(SINCE))

worlds: $(READY)  ## explore everything that can happen in small worlds (SECONDS=60 for each; ONLY="a renewal")
	@PYTHONPATH=tests $(BIN)/python -m small_worlds $(if $(SECONDS),--seconds $(SECONDS)) $(if $(ONLY),--only "$(ONLY)")

image:  ## build the container image, by docker, podman or buildah (BASE_IMAGE=..., BUILD_FLAGS=... for the builder)
	@$(PYTHON) hack/container_image.py $(if $(BASE_IMAGE),--base-image=$(BASE_IMAGE)) $(BUILD_FLAGS)

image-test: $(READY) image  ## build the image and run it with docker or podman, as restricted as a pod
	@$(PYTEST) tests/image

test-cluster: $(READY)  ## install image and chart on the cluster of KUBECONFIG, and cause faults (LOAD="kind load docker-image", or IMAGE=...)
	@test -n "$$KUBECONFIG" || { echo "set KUBECONFIG to a kubeconfig file of a cluster for tests"; exit 1; }
	@test -n "$(IMAGE)$(LOAD)" || { echo 'set LOAD to what gets an image there, such as LOAD="kind load docker-image"'; exit 1; }
	@$(if $(IMAGE),,$(MAKE) --no-print-directory image && $(LOAD) $$($(PYTHON) hack/container_image.py --show-tag))
	@$(PYTEST) tests/cluster $(T)

test-prometheus: $(READY)  ## test the alerts and the dashboard with a real Prometheus, which must be on PATH
	@$(PYTEST) tests/prometheus

check: $(READY)  ## run the static checks: format, lint, types, layers, generated files, Dockerfile, shell scripts, workflows
	@$(BIN)/ruff format --check --quiet . || { echo "run 'make format'"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/python hack/generate.py --check
	@$(BIN)/mypy --no-error-summary operator/vercel_certificate_operator operator/vercel_emulator hack tests benchmarks
	@$(BIN)/lint-imports --no-logo > .import-linter.log 2>&1 || { cat .import-linter.log; rm -f .import-linter.log; exit 1; }
	@rm -f .import-linter.log
	@$(BIN)/yamllint --strict .
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/shellcheck .ci/*
	@said=$$($(BIN)/zizmor --offline --quiet .github 2>&1) || { echo "$$said"; exit 1; }

format: $(READY)  ## format the code, and fix what ruff can fix
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

generate: $(READY)  ## write the generated files: dashboard, chart README and CRD, Argo CD's ConfigMap, the README's picture
	@$(BIN)/python hack/generate.py

recording: $(READY)  ## record the demo for the README ('make generate' draws the recording)
	@$(BIN)/python hack/recording.py
	@$(BIN)/python hack/generate.py

dashboard-picture: $(READY)  ## draw the dashboard for the documentation, with a real Prometheus, which must be on PATH
	@$(BIN)/python hack/dashboard_picture.py collect > $(VENV)/dashboard.json
	@$(BIN)/python -m venv $(VENV)/plot && $(VENV)/plot/bin/pip install --quiet --disable-pip-version-check 'matplotlib~=3.11'
	@$(VENV)/plot/bin/python hack/dashboard_picture.py draw $(VENV)/dashboard.json docs/dashboard.svg

venv: $(READY)  ## set up the virtual environment (other targets do that by themselves)

$(READY): requirements/dev.txt pyproject.toml
	@echo "setting up $(VENV): installing the locked dependencies (about half a minute with an empty cache)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or newer is needed; {sys.executable} is {sys.version.split()[0]}. Set PYTHON=/path/to/python3.x")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

$(LEAN)/.ready: $(READY) requirements/runtime.txt
	@$(PYTHON) -m venv $(LEAN)
	@$(BIN)/python -m pip --python $(LEAN)/bin/python install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.txt
	@touch $@

lock: $(READY)  ## lock the newest versions that pyproject.toml allows, with their hashes
	@$(BIN)/python -m venv $(VENV)/uv && $(VENV)/uv/bin/pip install --quiet --disable-pip-version-check uv
	@for what in "runtime:pyproject.toml" "dev:pyproject.toml --group dev" "build:--group build"; do \
	  $(VENV)/uv/bin/uv pip compile $${what#*:} --upgrade --universal --python-version 3.11 \
	    --generate-hashes --no-header --quiet -o requirements/$${what%%:*}.txt || exit 1; done

release:  ## set the version everywhere and date the changelog (VERSION=0.2.0); you commit and tag
	@$(PYTHON) hack/release.py prepare "$(or $(VERSION),VERSION)"

clean:  ## remove what the targets have created here (the cached control plane stays, under ~/.cache)
	rm -rf $(VENV) $(LEAN) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
