# A thin face on cargo and xtask. `make help` says what there is.

# Looked up when needed, after setup may have installed it.
CARGO = $(shell scripts/setup.sh --cargo)

# Said before a step that takes minutes the first time.
say = @echo 'make: $(1)'
first = @[ -e $(1) ] || echo 'make: $(2)'

.PHONY: help setup all build run test test-long list bench dist install deny clean

help:
	@echo 'make run               set up, build, and show the main job'
	@echo 'make all               the runtime, the keys command, all grates and programs'
	@echo 'make test [GRATE=name] all tests, or the end-to-end tests of one grate'
	@echo 'make test-long         the searches among them for longer: kills, random calls'
	@echo 'make list              the grates and programs: kind, language, folder, what it does'
	@echo 'make rust/NAME         build one grate or program written in Rust, and its tests'
	@echo 'make c/NAME            build one grate or program written in C, and its tests'
	@echo 'make bench             the side-by-side benchmarks'
	@echo 'make dist              one archive that runs without Rust, below target/dist'
	@echo 'make install           the same below PREFIX (/usr/local)'
	@echo 'make deny              hold the crates against deny.toml (takes cargo-deny)'
	@echo 'make clean             remove everything built'
	@echo
	@echo 'A grate of your own: cargo xtask new-grate NAME --lang c|rust (docs/writing-a-grate.md)'

setup:
	@scripts/setup.sh

all: build

build: setup
	$(call first,target/release/lind-wasm,the first build takes some ten minutes on two processors)
	$(call say,building the runtime and the keys command)
	$(CARGO) build --release
	$(call say,building the grates and programs)
	$(CARGO) xtask guests

run: build
	@scripts/demo.sh

# Without a name: every test of the host's crates, which include the end-to-end runner, and those
# of a grate's parts that run on the host too. The tests are compiled first and the runtime with
# them: their crates' features differ from a plain build's, and the engine is compiled once only.
ifdef GRATE
test: build
	@scripts/setup.sh --tests
	$(CARGO) test --release --package e2e --test e2e -- '$(GRATE)/'
else
test: setup
	@scripts/setup.sh --tests
	$(call first,target/release/lind-wasm,building all and the tests takes some twelve minutes on two processors)
	$(call say,building the runtime and the keys command and the tests)
	$(CARGO) test --release --no-run
	$(call say,building the grates and programs)
	$(CARGO) xtask guests
	$(call say,running the tests; the longest are the end-to-end tests)
	$(CARGO) test --release
	$(CARGO) test --release --package crypt-grate --lib --test model --test kill --test power --test power_sqlite --test runs
	$(CARGO) test --release --package write-filter-grate --lib
	$(CARGO) test --release --package resource-grate --lib
endif

# What is random in the tests, hundreds of times over; some hours on two processors.
test-long: build
	@scripts/setup.sh --tests
	$(CARGO) test --release --package crypt-grate --test model --test kill
	RUNS_SEEDS=20000 $(CARGO) test --release --package crypt-grate --test runs
	POWER_CUTS=1000000 $(CARGO) test --release --package crypt-grate --test power
	POWER_CUTS=300000 $(CARGO) test --release --package crypt-grate --test power_sqlite
	E2E_KILLS=500 $(CARGO) test --release --package e2e --test e2e -- 'random kills'
	E2E_KILLS=500 $(CARGO) test --release --package e2e --test e2e -- 'killed and started again'
	E2E_MODEL_SEEDS=1000 $(CARGO) test --release --package e2e --test e2e -- 'random file calls'
	E2E_MODEL_SEEDS=5000 $(CARGO) test --release --package e2e --test e2e -- 'random programs'
	E2E_HOSTILE_TRIES=20000 $(CARGO) test --release --package e2e --test e2e -- 'flipped'
	E2E_FUZZ_CALLS=20000000 $(CARGO) test --release --package e2e --test e2e -- 'hostile/random'

list: setup
	@$(CARGO) --quiet xtask list

rust/% c/%: setup
	$(call first,target/release/lind-wasm,the first build takes some ten minutes on two processors)
	$(CARGO) build --release
	$(CARGO) xtask guests --lang $(@D) $*

bench: build
	@scripts/setup.sh --tests
	@scripts/setup.sh --bench
	$(CARGO) run --release --package benches

PREFIX = /usr/local

dist: build
	$(CARGO) xtask dist

install: build
	$(CARGO) xtask install --prefix '$(PREFIX)' $(if $(DESTDIR),--destination '$(DESTDIR)')

deny: setup
	@$(CARGO) deny --version >/dev/null 2>&1 || \
		{ echo 'make: there is no cargo-deny; cargo install --locked cargo-deny makes it' >&2; exit 1; }
	$(CARGO) deny check licenses bans sources

clean: setup
	$(CARGO) clean
	rm -f lindfs/grates/*.wasm lindfs/grates/*.cwasm lindfs/bin/*.wasm lindfs/bin/*.cwasm
