# Every command of the project, for people and for .ci/run. `make` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One profile for the extension and the Rust tests, so that dependencies are built once.
CARGO_FLAGS := --release --locked

# The Rust tests that do not measure how promptly a call ends.
UNTIMED := --lib --test errors --test io --test opq --test properties --test threads

.DEFAULT_GOAL := help
.PHONY: help build demo test test-rust test-python lint format bench bench-stream counts fuzz soak coverage deny clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/.ready: python/requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r python/requirements-dev.txt
	touch $@

build: $(VENV)/.ready ## build the Python package into .venv
	cd python && ../$(BIN)/maturin develop $(CARGO_FLAGS) --quiet

demo: build ## compress and search 10,000 real sentence embeddings; writes target/demo.html
	$(BIN)/python examples/definitions/demo.py

test: lint test-rust test-python fuzz ## everything that must hold: format, lints, Rust, docs, Python, fuzzing

test-rust: ## Rust unit, integration, documentation and command-line tests, at every level of the kernels
	cargo test $(CARGO_FLAGS) --package picopq --package picopq-cli
	PICOPQ_KERNELS=scalar cargo test $(CARGO_FLAGS) --package picopq --features parquet $(UNTIMED)
	! grep -qw avx2 /proc/cpuinfo || \
		PICOPQ_KERNELS=avx2 cargo test $(CARGO_FLAGS) --package picopq --features parquet $(UNTIMED)

test-python: build ## Python tests, among them the comparison with nanopq and the stub check
	cd python && ../$(BIN)/python -m pytest

lint: ## formatting, lints and documentation, warnings as errors
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	PYO3_PYTHON=$(PYTHON) cargo clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc $(CARGO_FLAGS) --package picopq --features parquet --no-deps --quiet

format: ## format the Rust code
	cargo fmt --all
	cargo fmt --manifest-path fuzz/Cargo.toml

bench: build ## compare with nanopq, Faiss and ScaNN; CASE=encode for a part, QUICK=1 for two minutes
	$(BIN)/pip install --quiet --disable-pip-version-check -r bench/requirements.txt
	$(BIN)/python bench/run.py $(if $(QUICK),--quick) $(if $(CASE),--case $(CASE))

bench-stream: build ## encode a file larger than memory, beside a script over Faiss; GB=8 sets its size
	$(BIN)/pip install --quiet --disable-pip-version-check -r bench/requirements.txt
	cargo build $(CARGO_FLAGS) --package picopq-cli
	$(BIN)/python bench/stream.py --gb $(or $(GB),8)

counts: ## count the instructions of encode and fit per vector, with valgrind
	cargo build $(CARGO_FLAGS) --package picopq --example counts
	$(PYTHON) bench/counts.py

fuzz: ## run every fuzz target for 20 seconds, or SECONDS, on from its seeds
	fuzz/run $(or $(SECONDS),20)

soak: build ## fuzz for 300 seconds each, or SECONDS; more random cases, processes
	fuzz/run $(or $(SECONDS),300)
	PROPTEST_CASES=2000 timeout 1800 cargo test $(CARGO_FLAGS) --package picopq --lib --test properties
	cd python && for round in 1 2 3; do ../$(BIN)/python -m pytest tests/test_processes.py || exit 1; done

# Without the test of how promptly a call ends, which counting slows down, and that of refused memory,
# which the counters' own allocations would meet.
coverage: ## lines of the library that its Rust tests run (cargo-llvm-cov, component llvm-tools)
	cargo llvm-cov clean --workspace
	cargo llvm-cov $(CARGO_FLAGS) --no-report --package picopq --features parquet -- --skip promptly --skip refusals
	PICOPQ_KERNELS=scalar cargo llvm-cov $(CARGO_FLAGS) --no-report --package picopq --features parquet $(UNTIMED)
	PICOPQ_KERNELS=avx2 cargo llvm-cov $(CARGO_FLAGS) --no-report --package picopq --features parquet $(UNTIMED)
	cargo llvm-cov report --release --ignore-filename-regex 'tests|parity'

deny: ## licences and sources of dependencies (cargo-deny); ADVISORIES=1 asks for advisories
	cargo deny --locked check licenses bans sources $(if $(ADVISORIES),advisories)

clean: ## remove everything that was built
	cargo clean
	rm -rf $(VENV)
