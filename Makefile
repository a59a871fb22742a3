.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
LOCKED := $(PIP_INSTALL) --require-hashes --only-binary :all:
TYPED := ledger server tests bench .ci/everything_ran.py

# Arguments for pytest (`make test ARGS="-k sequencer"`) or for `quire serve`.
ARGS ?=
# Kill-and-recover rounds of `make torture`.
CYCLES ?= 1000
# QUICK=1: the benchmark on a tenth of the work.
QUICK ?=

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z.-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: serve
serve: .venv/.runtime ## Start the server and its embedded PostgreSQL on 127.0.0.1:8080
	@exec $(BIN)/quire serve $(ARGS)

.PHONY: test
test: .venv/.dev .venv-s3/.done ## Run the whole suite against a real PostgreSQL (ARGS="-k name" for a part)
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

.PHONY: test-ceph
test-ceph: .venv/.dev ## Run the tests of object storage against Ceph (Debian: radosgw ceph-mon ceph-osd)
	OBJECT_STORAGE=ceph $(BIN)/python -m pytest tests/archive $(ARGS)

.PHONY: torture
torture: .venv/.dev ## Kill server and database under load, CYCLES=1000 times
	TORTURE_CYCLES=$(CYCLES) $(BIN)/python -m pytest -m torture --timeout 0 $(ARGS)

.PHONY: lint
lint: .venv/.dev ## Check style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(wildcard $(TYPED))
	$(BIN)/lint-imports

.PHONY: bench
bench: .venv/.dev ## Measure speed (QUICK=1: a tenth of the work)
	QUICK=$(QUICK) $(BIN)/python -m bench $(ARGS)

# What `make bench-pairs` compares this checkout with, and in which rows (none: all).
BASE ?= HEAD
ROWS ?=

.PHONY: bench-pairs
bench-pairs: .venv/.dev ## Compare CPU per event with a commit (BASE=commit ROWS=append_single,verify_full)
	$(BIN)/python -m bench.pairs --base $(BASE) $(if $(ROWS),--rows $(ROWS)) $(ARGS)

# Programs that check our logs and are not ours, and the modules for the one on
# docs/check-with-others.md, with the go command of .venv. Their checksums are in Go's public log.
TESSERA := v1.0.4
GO_MOD := v0.33.0
GO := env -u GOROOT GOPATH=$(CURDIR)/.venv/.go GOCACHE=$(CURDIR)/.venv/.go-build \
	GOFLAGS=-modcacherw GOTOOLCHAIN=local CGO_ENABLED=0 $(BIN)/go

.venv/.go/.done: .venv/.dev
	@echo "Adding Tessera's checkers ..."
	@$(GO) install github.com/transparency-dev/tessera/cmd/fsck@$(TESSERA)
	@$(GO) install github.com/transparency-dev/tessera/internal/hammer@$(TESSERA)
	@$(GO) mod download golang.org/x/mod@$(GO_MOD)
	@touch $@

test: .venv/.go/.done

.PHONY: lock
lock: ## Pin every dependency anew (needs uv on the PATH)
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv" >&2; exit 1; }
	$(UV_COMPILE) --universal requirements-build.in -o requirements-build.txt
	$(UV_COMPILE) --universal pyproject.toml --extra server -o requirements.txt
	$(UV_COMPILE) --universal pyproject.toml --extra server --extra dev \
		-c requirements.txt -c requirements-build.txt -o requirements-dev.txt
	$(UV_COMPILE) --python-platform linux requirements-s3.in -o requirements-s3.txt

UV_COMPILE := uv pip compile --quiet --upgrade --python-version 3.11 \
	--generate-hashes --only-binary :all: --no-config --custom-compile-command "make lock"

.PHONY: clean
clean: ## Remove virtual environments, caches and bench results (never the data directory)
	rm -rf .venv .venv-s3 .bench-commits build dist bench/results .hypothesis .schemathesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps say what .venv holds. Serving needs the first, all else the second.
.PHONY: .venv
.venv: .venv/.dev ## Build the virtual environment only

.venv/.runtime: requirements.txt requirements-build.txt pyproject.toml .ci/find-python
	@echo "Preparing .venv ..."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { python=$$(.ci/find-python); "$$python" -m venv --clear .venv; }
	@$(LOCKED) -r requirements-build.txt -r requirements.txt
	@$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

.venv/.dev: .venv/.runtime requirements-dev.txt
	@echo "Adding what tests, linters and benchmarks need ..."
	@$(LOCKED) -r requirements-dev.txt
	@touch $@

# What the tests run apart from .venv. Object storage: it pins what we leave open, this LocalStack
# is the last that runs on all our Pythons, and its lock is for Linux, as Windows lacks wheels.
# And sigstore, which brings pydantic: Litestar takes that up wherever it is installed, and
# the tests would see another server than the one that ships.
.PHONY: .venv-s3
.venv-s3: .venv-s3/.done ## Build what the tests run apart from .venv only

.venv-s3/.done: requirements-s3.txt .ci/find-python
	@echo "Preparing .venv-s3 ..."
	@python=$$(.ci/find-python); "$$python" -m venv --clear .venv-s3
	@.venv-s3/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
		--require-hashes --no-deps --only-binary :all: -r requirements-s3.txt
	@touch $@
