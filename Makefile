# glassrunner: `make help` lists the targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/glassrunner, static
	CGO_ENABLED=0 go build -trimpath -ldflags "$$(scripts/ldflags.sh)" -o bin/ ./cmd/...

.PHONY: demo
demo: build ## show it: a test coordinator, a runner and its metrics
	bin/glassrunner demo

.PHONY: test
test: ## everything that CI runs; installs what it needs
	@scripts/test.sh

.PHONY: unit e2e browser kubernetes soak lint mixin
unit: ## unit tests with the race detector
	@scripts/test.sh unit
e2e: ## whole-program tests
	@scripts/test.sh e2e
browser: ## the status page in a real Chromium
	@scripts/test.sh browser
kubernetes: ## the chart and jobs on a real cluster; builds Kubernetes the first time
	@scripts/test.sh kubernetes
soak: ## long whole-program tests with faults
	@scripts/test.sh soak
mixin: ## rules and dashboards, against the program and a real Prometheus
	@scripts/test.sh mixin
lint: ## vet, shellcheck and golangci-lint
	@scripts/test.sh format vet scripts lint

.PHONY: fmt
fmt: ## format the Go code
	"$$(scripts/tool.sh golangci-lint)" fmt

.PHONY: watch
watch: ## run a package's tests whenever a file of it changes
	"$$(scripts/tool.sh gotestsum)" --watch --format testname

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (10s); PACKAGES=./internal/x
	@scripts/fuzz.sh

.PHONY: bench
bench: ## benchmarks; BENCH=regexp COUNT=10 PACKAGES=./internal/x BASE=old.txt
	@scripts/bench.sh

.PHONY: cover
cover: ## coverage of the unit tests, by function and as .cache/cover.html
	@mkdir -p .cache
	go test -coverpkg=./... -coverprofile=.cache/cover.out $$(go list ./... | grep -v /test/e2e)
	go tool cover -html=.cache/cover.out -o .cache/cover.html
	go tool cover -func=.cache/cover.out | tail -n 1

.PHONY: docs
docs: ## generate docs, rules and dashboards again from the code
	go generate ./...
	go -C tools/mixin run . generate "$(CURDIR)"

.PHONY: images
images: ## make the screenshots of docs/images anew
	@scripts/test.sh images

.PHONY: helper-image
helper-image: ## build the Docker executor's helper image and load it into the engine
	@scripts/helper-image.sh

.PHONY: clean
clean: ## remove what was built here
	rm -rf bin .cache
