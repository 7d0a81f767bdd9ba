# What everybody runs. `make help` lists the targets; `make check test` is what CI runs.

SHELL       := /bin/bash
GO          ?= go
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS     := -s -w -X main.version=$(VERSION)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME    ?= 30s
BENCH       ?= .
BENCHTIME   ?= 1s
ROUNDS      ?= 50

.DEFAULT_GOAL := help
.PHONY: help build run test test-crash check bench fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## static binaries bin/gannetd and bin/gannet
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/gannetd ./cmd/gannet

run: build ## build, then run the server on loopback until Ctrl-C
	exec bin/gannetd

test: ## all tests under the race detector, then those named TestNoRace without it
	./scripts/testdeps.sh
	$(GO) test -race -shuffle=on -timeout 15m ./...
	@pkgs=$$(grep -rlE --include='*_test.go' '^func TestNoRace' . | xargs -r -n1 dirname | sort -u); \
	if [ -z "$$pkgs" ]; then echo 'no tests named TestNoRace'; exit 0; fi; \
	echo "$(GO) test -run '^TestNoRace'" $$pkgs; \
	$(GO) test -shuffle=on -timeout 15m -run '^TestNoRace' $$pkgs

test-crash: ## kill the server ROUNDS (50) times under traffic and check that nothing is lost
	$(GO) test -v -count 1 -timeout 60m -run '^TestKill$$' ./internal/crashtest -rounds $(ROUNDS)

check: ## gofmt, vet, staticcheck, tidy, known vulnerabilities
	@unformatted=$$(gofmt -l .) || exit 1; \
	if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w on:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) mod tidy -diff
	./scripts/vulncheck.sh

bench: ## all Go benchmarks (BENCH=regexp, BENCHTIME=1s)
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem ./...

fuzz: ## every fuzz target for FUZZTIME (30s) each
	./scripts/fuzz.sh $(FUZZTIME)

clean: ## remove bin/ and what tests leave behind
	rm -rf bin
	find . -name '*.test' -o -name '*.prof' -o -name '*.out' | grep -v '^./.git/' | xargs -r rm -f
