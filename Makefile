# A thin face on cargo and xtask. `make help` says what there is.

# Looked up when needed, after setup may have installed it.
CARGO = $(shell scripts/setup.sh --cargo)

# Said before a step that takes minutes the first time.
say = @echo 'make: $(1)'
first = @[ -e $(1) ] || echo 'make: $(2)'

.PHONY: help setup build run test test-long list bench clean

help:
	@echo 'make run               set up, build, and show the main job'
	@echo 'make build             the runtime, the keys command, all grates and programs'
	@echo 'make test [GRATE=name] all tests, or the end-to-end tests of one grate'
	@echo 'make test-long         the searches among them for longer: kills, random calls'
	@echo 'make list              the grates and programs'
	@echo 'make rust/NAME         build one grate or program written in Rust'
	@echo 'make c/NAME            build one grate written in C'
	@echo 'make bench             the side-by-side benchmarks'
	@echo 'make clean             remove everything built'

setup:
	@scripts/setup.sh

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

rust/%: setup
	$(call first,target/release/lind-wasm,the first build takes some minutes for the runtime alone)
	$(CARGO) build --release --package lind-wasm
	$(CARGO) xtask guests $*

c/%:
	@echo 'make: grates in C are not built yet; $* cannot be made' >&2
	@exit 1

bench: build
	@scripts/setup.sh --tests
	@scripts/setup.sh --bench
	$(CARGO) run --release --package benches

clean: setup
	$(CARGO) clean
	rm -f lindfs/grates/*.wasm lindfs/grates/*.cwasm lindfs/bin/*.wasm lindfs/bin/*.cwasm
