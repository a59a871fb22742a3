.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory

# Debian installs servers in folders that are often not on a user's PATH.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

BIN := .venv/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --no-input --no-deps
# A lock is installed exactly: pip resolves nothing, and .ci/check-packages refuses packages that
# do not fit together.
INSTALL_LOCK := $(PIP_INSTALL) --require-hashes --only-binary :all:
TYPED := ledger server tests bench .ci/everything_ran.py

# Arguments of pytest (`make test ARGS="-k sequencer"`) or of `quire serve`.
ARGS ?=
# Tests that run at once: twice as many as two cores take, as many a test waits for a process.
WORKERS ?= 4
# The folder of PostgreSQL programs for `make test-postgres`.
PG_BIN ?=
# The number of kill-and-recover rounds of `make torture`.
CYCLES ?= 1000
# QUICK=1: the benchmark does a tenth of the work.
QUICK ?=

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z.-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: serve
serve: .venv/.runtime ## Start the server and its embedded PostgreSQL on 127.0.0.1:8080
	@exec $(BIN)/quire serve $(ARGS)

# The suite starts hundreds of processes of this code, which compile it once.
test test-quick test-slow: export PYTHONDONTWRITEBYTECODE :=

.PHONY: test
test: .venv/.dev .venv-s3/.done ## Run the whole suite against a real PostgreSQL (ARGS="-k name" for a part)
	@.ci/system-packages test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)

# The ring to run during work: all pure tests, with a tenth of the generated examples, and a thin
# slice of the tests on the real PostgreSQL. New tests in tests/unit are included automatically.
QUICK_RING := tests/unit tests/evidence/test_corpus.py tests/evidence/test_parsers.py tests/client/test_protocol.py tests/cli/test_text.py \
	tests/cli/test_command_tree.py tests/cli/test_import_qwed_options.py tests/cli/test_verdicts.py \
	tests/storage/test_migrate.py tests/storage/test_worm.py \
	tests/sequencer/test_batching.py tests/sequencer/test_idempotency.py \
	tests/http/test_adding.py tests/http/test_disclosures.py tests/http/test_reading.py tests/verification/test_single.py

.PHONY: test-quick
test-quick: .venv/.dev ## Run the pure tests and a thin slice with PostgreSQL, in a tenth of the time
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --hypothesis-profile quick $(ARGS) $(QUICK_RING)

.PHONY: test-slow
test-slow: .venv/.dev .venv-s3/.done ## Run the slow tests, which the suite leaves out
	@.ci/system-packages test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m slow --timeout 600 $(ARGS)

test-slow: .venv/.go/.done

.PHONY: test-postgres
test-postgres: .venv/.dev ## Run the storage tests on another PostgreSQL (PG_BIN=folder of initdb)
	@test -x "$(PG_BIN)/initdb" || { echo "Name a folder that has initdb and postgres: make test-postgres PG_BIN=/usr/lib/postgresql/15/bin" >&2; exit 1; }
	TEST_POSTGRES_BIN="$(abspath $(PG_BIN))" $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup tests/storage $(ARGS)

.PHONY: test-ceph
test-ceph: .venv/.dev ## Run the archive tests against Ceph's object storage
	@.ci/system-packages test-ceph
	OBJECT_STORAGE=ceph $(BIN)/python -m pytest tests/archive $(ARGS)

.PHONY: torture
torture: .venv/.dev ## Kill server and database under load, CYCLES=1000 times
	TORTURE_CYCLES=$(CYCLES) $(BIN)/python -m pytest -m torture --timeout 0 $(ARGS)

# The factor on the number of damages tried in the suite.
DAMAGES ?= 10

.PHONY: soak
soak: .venv/.dev ## Attack a server in each way while another org works: 1 if it is slowed by more than 5 (ARGS=--quick)
	$(BIN)/python -m bench.soak $(ARGS)

.PHONY: test-damage
test-damage: .venv/.dev ## Damage trails, bundles, logs and archives at random: no damaged check may come out true (DAMAGES=10 times the suite's)
	@.ci/system-packages test
	DAMAGES=$(DAMAGES) QUIRE_DAMAGES=$$((20 * $(DAMAGES))) $(BIN)/python -m pytest --timeout 0 -rP \
		-k "never_false or random_damage" tests/verification/test_never_false.py tests/evidence/test_random_damage.py \
		tests/archive/test_archive_verification.py tests/page/test_agreement.py tests/verification/test_random_damage.py $(ARGS)

.PHONY: lint
lint: .venv/.dev ## Check style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(wildcard $(TYPED))
	$(BIN)/lint-imports

.PHONY: docs
docs: .venv/.runtime ## Write the tables of docs/ that are made from the code
	@$(BIN)/python -m server.app.reference

.PHONY: bench
bench: .venv/.dev ## Measure speed (QUICK=1: a tenth of the work)
	QUICK=$(QUICK) $(BIN)/python -m bench $(ARGS)

# The commit that `make bench-pairs` compares this checkout with, and the rows (empty: all).
BASE ?= HEAD
ROWS ?=

.PHONY: bench-pairs
bench-pairs: .venv/.dev ## Compare CPU per event with a commit (BASE=commit ROWS=append_single,verify_full)
	$(BIN)/python -m bench.pairs --base $(BASE) $(if $(ROWS),--rows $(ROWS)) $(ARGS)

# Independent programs that check our logs, and the modules for the program in
# docs/check-with-others.md, built with the go command of .venv. Go's public log has their checksums.
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
lock: ## Update all lock files (needs uv on the PATH)
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

# The stamps record the contents of .venv. Serving needs the first two; all other targets need the third too.
.PHONY: .venv
.venv: .venv/.dev ## Build only the virtual environment

# Created anew, so that no package of an older lock is left.
.venv/.locked: requirements.txt requirements-build.txt .ci/find-python
	@echo "Preparing .venv ..."
	@python=$$(.ci/find-python); "$$python" -m venv --clear .venv
	@$(BIN)/python $(INSTALL_LOCK) -r requirements-build.txt -r requirements.txt
	@touch $@

.venv/.runtime: .venv/.locked pyproject.toml .ci/check-packages
	@$(BIN)/python $(PIP_INSTALL) --no-build-isolation -e .
	@.ci/check-packages .venv requirements.txt requirements-build.txt
	@touch $@

.venv/.dev: .venv/.runtime requirements-dev.txt
	@echo "Adding what tests, linters and benchmarks need ..."
	@$(BIN)/python $(INSTALL_LOCK) -r requirements-dev.txt
	@.ci/check-packages .venv requirements-dev.txt
	@touch $@

# Programs that the tests run outside of .venv. LocalStack: it pins packages that we leave open,
# this version is the last for all our Pythons, and its lock is for Linux, as Windows lacks wheels.
# And sigstore, which depends on pydantic: Litestar uses pydantic wherever it is installed, so the
# tests would test another server than the one that ships.
.PHONY: .venv-s3
.venv-s3: .venv-s3/.done ## Build only the environment of the programs that tests run outside of .venv

.venv-s3/.done: requirements-s3.txt .ci/find-python .ci/check-packages
	@echo "Preparing .venv-s3 ..."
	@python=$$(.ci/find-python); "$$python" -m venv --clear .venv-s3
	@.venv-s3/bin/python $(INSTALL_LOCK) -r requirements-s3.txt
	@.ci/check-packages .venv-s3 requirements-s3.txt
	@touch $@
