# Everything that a person or CI runs. `make` lists it.
#
# Programs that the project needs are installed or built by tools/*.sh into
# .tools, which git ignores; see docs/development.md.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

# What a user may set, on make's command line or in the environment.
HAPROXY ?=
CONSUL ?=
ONCE ?=
PKG ?= ./...
TESTFLAGS ?=
T ?= 10s
VERSION ?=
N ?= 20
SEEDS ?= 2000
SEED ?=
FIGURE ?=
ROWS ?=
BENCHFLAGS ?=

# What the programs say they are, unless VERSION does.
DESCRIBED = $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# HAPROXY=3.2 stands for that version out of Debian's suites.
HAPROXY_MINOR := $(filter 2.6 3.0 3.2 3.4,$(HAPROXY))
ifneq ($(HAPROXY_MINOR),)
override HAPROXY := $(CURDIR)/.tools/haproxy/$(HAPROXY_MINOR)/haproxy
endif
# CONSUL=1.22 is built from its module, CONSUL=1.8 comes from Debian.
CONSUL_MINOR := $(filter 1.8 1.22,$(CONSUL))
ifneq ($(CONSUL_MINOR),)
override CONSUL := $(CURDIR)/.tools/$(if $(filter 1.8,$(CONSUL_MINOR)),consul/1.8,bin)/consul
endif
# Tests run in their package's directory, so a relative path must not reach them.
ifneq ($(findstring /,$(HAPROXY)),)
override HAPROXY := $(abspath $(HAPROXY))
endif
ifneq ($(findstring /,$(CONSUL)),)
override CONSUL := $(abspath $(CONSUL))
endif
# Set but empty is not the same as not set, to a program that looks.
ifneq ($(HAPROXY),)
export HAPROXY
else
unexport HAPROXY
endif
ifneq ($(CONSUL),)
export CONSUL
else
unexport CONSUL
endif
ifneq ($(ONCE),)
export ONCE
endif

# What `make build` makes, by main package; the binary has the directory's name.
PROGRAMS := ./sidecar/cmd/pointsman ./registrator/cmd/registrator ./services/api ./services/client

# One test binary may take this long. `make test` as a whole takes far less.
TEST_TIMEOUT := 15m

GOLANGCI_LINT := .tools/bin/golangci-lint
SCRIPTS := $(wildcard tools/*.sh compose/*.sh compose/*/*.sh compose/images/*/*.sh deploy/*/*.sh test/packages/*.sh) .ci/run

.PHONY: help
help: ## List the targets
	@echo 'usage: make TARGET [VARIABLE=VALUE]'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo 'variables:'
	@echo '  HAPROXY=PATH    use that HAProxy; HAPROXY=2.6, 3.0, 3.2 or 3.4: from Debian'
	@echo '  CONSUL=PATH     use that Consul; CONSUL=1.22: built, which takes minutes; CONSUL=1.8: from Debian'
	@echo '  ONCE=1          the demo stops by itself'
	@echo '  PKG=./x/...     test only these packages; TESTFLAGS="-run Name -v" for go test'
	@echo '  T=10m           how long each fuzz test runs, or the soak, or the simulation; SEED=7 repeats a soak'
	@echo '  SEEDS=10000     how many histories to simulate; from the seed FROM on, or from a random one; SEED=57 repeats one'
	@echo '  VERSION=1.1     what to deploy'
	@echo '  ROWS=large      measure these rows only; BENCHFLAGS="--runs 3 --profile always"'
	@echo '  N=200           how often to deploy; FIGURE=FILE.svg draws the leave times'

.PHONY: demo
demo: tools-demo ## Watch a deployment under load lose no request (ONCE=1: and stop)
	CONSUL=$$(tools/consul.sh demo) && export CONSUL && go run ./test/lab/cmd/demo

.PHONY: deployments
deployments: tools ## Deploy N times under load (N=200), and lose no request
	@go run ./test/lab/cmd/deployments --n $(N) $(if $(FIGURE),--figure $(FIGURE))

.PHONY: soak
soak: T := $(if $(filter file,$(origin T)),10m,$(T))
soak: tools ## Run it all under load and random faults for T (10m), and lose no request
	@go run ./test/lab/cmd/soak --for $(T) $(if $(SEED),--seed $(SEED))

.PHONY: sim
sim: T := $(if $(filter file,$(origin T)),,$(T))
sim: ## Simulate histories of the sidecar in virtual time: SEEDS=10000, or for T=3m, of new seeds; SEED=57 alone, with all that happens in it
	GOGC=400 go test -count=1 -timeout=$(if $(T),0,60m) -v -run=TestHistories ./sidecar/internal/sim -args \
		$(if $(SEED),-seed=$(SEED),$(if $(T),-for=$(T),-seeds=$(SEEDS)) -from=$(or $(FROM),0)) \
		$(if $(EVENTS),-events=$(EVENTS)) $(if $(WITH),-with=$(WITH)) $(if $(WITHOUT),-without=$(WITHOUT))

.PHONY: build
build: ## Build the programs into bin/, static
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(or $(VERSION),$(DESCRIBED))' -o bin/ $(PROGRAMS)

.PHONY: packages
packages: ## Make debs, rpms, archives, bills of materials and SHA256SUMS in bin/packages
	tools/packages.sh

.PHONY: test-packages
test-packages: ## Install the packages in a clean Debian, start it and deploy in it; needs root
	tools/test-packages.sh

.PHONY: engine
engine: ## Make sure of a Docker engine and of Docker Compose
	@tools/engine.sh

.PHONY: engine-stop
engine-stop: ## End the Docker engine that `make engine` has started
	@tools/engine.sh stop

.PHONY: images
images: ## Build the images; where no registry answers, make their bases first
	@tools/images.sh
	@compose/build.sh

.PHONY: deploy
deploy: ## Deploy a version of the API under Docker Compose: VERSION=1.1
	@compose/deploy.sh $(VERSION)

# The test process of these packages only waits for programs, which are built without the
# race detector: it would find nothing there. They begin first, because they take longest.
WHOLE := ./test/e2e ./test/e2e/page
# These take longest of the rest.
LONG := ./sidecar/internal/daemon ./sidecar/internal/cli ./registrator/cmd/registrator ./sidecar/internal/sim ./registrator ./sidecar/internal/haproxy

# The race detector crashes when two goroutines of one synctest bubble take a timer that
# is due at once (golang/go#78156), which one processor cannot do. It sees a race by what
# orders two accesses, not by when they happen, so that it needs no second one.
RACE := -race -cpu=1

.PHONY: test
test: tools ## Run all tests in random order, with the race detector where our code runs in the test
ifeq ($(PKG),./...)
	@status=0; \
	go test -shuffle=on -timeout=$(TEST_TIMEOUT) $(TESTFLAGS) $(WHOLE) || status=1; \
	go test $(RACE) -shuffle=on -timeout=$(TEST_TIMEOUT) $(TESTFLAGS) $(LONG) $$(go list ./... | grep -vE '/test/e2e(/page)?$$') || status=1; \
	exit $$status
else
	go test $(RACE) -shuffle=on -timeout=$(TEST_TIMEOUT) $(TESTFLAGS) $(PKG)
endif

# Packages whose tests need no other program, or leave out with -short those
# that do. The others build our programs and run them.
UNIT := ./templates/... ./sidecar/... ./registrator ./registrator/contract/... ./registrator/platform/... \
	./registrator/cmd/registrator/internal/... ./services/api/internal/... ./services/client/internal/... \
	./services/internal/... ./test/architecture ./test/compat

.PHONY: unit
unit: ## Run the tests that need no other program, in about a minute
	go test -short -shuffle=on $(TESTFLAGS) $(UNIT)

.PHONY: e2e
e2e: engine images ## Run the sample under Docker Compose through faults and deployments
	@tools/system.sh chromium
	@# One scenario upgrades a load balancer to it.
	@HAPROXY_VERSION=3.4 tools/images.sh haproxy
	@tools/images.sh prometheus
	go test -tags compose -count=1 -timeout=40m $(TESTFLAGS) ./test/e2e/compose

.PHONY: databases
databases: ## Move PostgreSQL's primary and Redis's master under load, on HAProxy 2.6 and 3.4 unless HAPROXY names one
	@$(CHOSEN_TOOLS)
	@tools/system.sh postgres redis-server
	@tools/consul.sh >/dev/null
	@versions=$$($(if $(HAPROXY),echo "$$HAPROXY",tools/haproxy-versions.sh .tools/haproxy 2.6 3.4 | cut -f1)) && \
		for haproxy in $$versions; do \
			HAPROXY=$$haproxy go test -tags databases -count=1 -timeout=$(TEST_TIMEOUT) -v -run 'TestPostgres|TestRedis' $(TESTFLAGS) ./test/e2e || exit 1; \
		done

.PHONY: lint
lint: tools-lint ## Check the Go code and the scripts
	$(GOLANGCI_LINT) run
	shellcheck $(SCRIPTS)

.PHONY: verify
verify: ## Compare the modules with the digests of go.sum
	@for module in . tools tools/lint tools/compose; do (cd $$module && go mod verify) || exit 1; done

.PHONY: vuln
vuln: ## Look for known vulnerabilities; needs Go's database, or GOVULNDB
	tools/vuln.sh

.PHONY: fmt
fmt: tools-lint ## Format the Go code
	$(GOLANGCI_LINT) fmt

.PHONY: fuzz
fuzz: tools ## Run each fuzz test for T
	tools/fuzz.sh $(T)

.PHONY: matrix
matrix: tools ## Run the tests with processes on every HAProxy and Consul
	tools/matrix.sh

.PHONY: bench
bench: tools ## Measure what a change costs, beside its floor (ROWS=small-30ms,large: some rows), on HAProxy 3.4 unless HAPROXY names another
	@$(if $(HAPROXY),,HAPROXY=$$(tools/haproxy-versions.sh .tools/haproxy 3.4 | cut -f1)) \
		go run ./test/bench $(if $(ROWS),--rows $(ROWS)) $(BENCHFLAGS)

.PHONY: microbench
microbench: ## Run the benchmarks of single functions
	go test -run='^$$' -bench=. -benchmem -timeout=30m $(PKG)

# What HAPROXY=3.2 or CONSUL=1.22 asks for.
CHOSEN_TOOLS = $(if $(HAPROXY_MINOR),tools/haproxy-versions.sh .tools/haproxy $(HAPROXY_MINOR) >/dev/null)$(if $(CONSUL_MINOR),$(if $(HAPROXY_MINOR), && )tools/consul.sh $(CONSUL_MINOR) >/dev/null)

.PHONY: tools
tools: ## Install or build what demo and test need (HAProxy, Consul, Chromium, keepalived, nginx, promtool, tmux)
	@$(CHOSEN_TOOLS)
	@tools/system.sh cc chromium curl haproxy keepalived python3 systemd-analyze tmux
	@tools/consul.sh >/dev/null
	@tools/nginx.sh
	@tools/prometheus.sh

.PHONY: axe
axe: ## Fetch axe-core again, by which the browser tests check accessibility (needs npm)
	tools/axe.sh

.PHONY: recording
recording: tools ## Make the README's moving picture of a deployment, of page and terminal
	tools/recording.sh

.PHONY: uplot
uplot: ## Fetch uPlot again, which draws the page's charts (needs npm)
	tools/uplot.sh

# Only what the demo needs: it is the first thing that is tried.
.PHONY: tools-demo
tools-demo:
	@$(CHOSEN_TOOLS)
	@tools/system.sh haproxy
	@tools/consul.sh demo >/dev/null

.PHONY: tools-haproxy
tools-haproxy: ## Get HAProxy 2.6, 3.0, 3.2 and 3.4 from Debian, side by side
	@tools/haproxy-versions.sh

.PHONY: tools-lint
tools-lint:
	@tools/system.sh shellcheck
	@tools/build.sh tools/lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint golangci-lint

.PHONY: tools-compose
tools-compose: ## Build Docker Compose
	@tools/compose.sh

.PHONY: clean
clean: ## Remove what build and tests made; the tools stay in .tools
	rm -rf bin test/e2e/report.json test/e2e/screens
	find . -path ./.tools -prune -o -path ./.git -prune -o \
		\( -name '*.test' -o -name '*.prof' -o -name 'coverage*.out' -o -path '*/testdata/rapid' \) \
		-prune -exec rm -rf {} +
