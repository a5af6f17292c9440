# Vigie. `make help` lists the targets.
#
# FAULTS, HOSTS ... select what `make lab` does (LAB="--help" shows all); BENCH="--help" likewise for `make bench`,
# TESTS="-k sentinel" goes to pytest.

PYTHON  := /usr/bin/python3
VIGIE   := .build/release/vigie
FAULTS  ?=
LAB     ?=
BENCH   ?=
TESTS   ?=

.PHONY: help run build test test-unit test-sanitized test-integration bench lab check-deps clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## the platform on loopback: three stores, three Sentinels, the proxy; Ctrl-C ends it
	@exec $(VIGIE) demo

build: ## the program, in .build/release/vigie
	@Tests/Integration/install-peers --build
	swift build -c release --product vigie

# Every part runs whatever became of those before it; the parts' own closing lines come again at the end.
test: ## everything: unit tests, fuzzers for some seconds, then the tests against real peers and in network namespaces
	@Tests/run-all

test-unit: ## the unit tests only
	@Tests/Integration/install-peers --build
	swift test

# Leaks are not looked for: XCTest leaves some, and simulated worlds that hold themselves end with the process.
test-sanitized: ## the unit tests under the address sanitizer
	@Tests/Integration/install-peers --build
	ASAN_OPTIONS=detect_leaks=0 swift test --sanitize=address --scratch-path .build/asan --no-parallel

test-integration: build ## the tests against real peers only; TESTS="-k sentinel" selects
	@Tests/Integration/install-peers
	$(PYTHON) -m pytest Tests/Integration $(TESTS)

bench: build ## server CPU per operation and memory per item, beside Debian's redis-server; BENCH="--help"
	@Tests/Integration/install-peers
	@$(PYTHON) Tests/Benchmarks $(BENCH)

lab: build ## six hosts as network namespaces, and faults (root); FAULTS=killed,frozen LAB="--help"
	@Tests/Integration/install-peers
	@$(PYTHON) Tests/Lab $(if $(FAULTS),--faults $(FAULTS)) $(LAB)

check-deps: ## what is installed and what is missing, changing nothing
	@swift --version 2>/dev/null || echo "swift: missing (a toolchain of 6.1 or later)"
	@Tests/Integration/install-peers --check

clean: ## removes everything that was built
	rm -rf .build
