# One set of build flags for everything, the ones that xcaddy uses, so that the
# programs, the tests and a build with xcaddy share one build cache.
export GOFLAGS = -trimpath -tags=nobadger,nomysql,nopgx
GO = CGO_ENABLED=0 go

# How long the tests of a package may take on a machine that is busy.
TIMEOUT = 20m

# The race detector needs a C compiler.
ifneq ($(shell command -v $${CC:-cc} 2>/dev/null),)
RACE = CGO_ENABLED=1 go test -race -timeout $(TIMEOUT)
else
RACE = $(GO) test -timeout $(TIMEOUT)
endif

# Packages without Caddy are tested with the race detector; so is the Caddy skin
# in "make race", which compiles all of Caddy a second time.
CORE = ./caddymodule/internal/... ./caddymodule/store/... ./caddymodule/login/... ./mcpbackend/...

.PHONY: run test build xcaddy race integration bench fuzz lint vuln clean

run: ## Run the demo: gateway, MCP server and a user to sign in as.
	@echo "Building the demo. The first time this compiles Caddy, which takes some minutes."
	@$(GO) run ./cmd/caddy mcp-auth quickstart

test: ## Run every test that this machine has the tools for.
	@echo "Testing. The first time this compiles Caddy, which takes some minutes."
	@case "$(RACE)" in *-race*) ;; *) echo "There is no C compiler: testing without the race detector."; test "$$CI" != true;; esac
	$(RACE) $(CORE)
	$(GO) test ./caddymodule ./cmd/...
	@echo "Testing with real clients, as a process, over TLS."
	$(GO) test -timeout $(TIMEOUT) ./integration/...

race: ## Run the tests of the Caddy skin with the race detector.
	$(RACE) ./caddymodule

build: ## Build bin/caddy and bin/mcpbackend from this checkout.
	$(GO) build -o bin/ ./cmd/caddy ./mcpbackend

xcaddy: ## Build bin/caddy from xcaddy.json, through xcaddy.
	$(GO) run ./cmd/build

bench: ## Measure the gate, and the gateway against plain reverse_proxy.
	$(GO) test -run '^$$' -bench . -benchtime 200ms $(CORE) ./caddymodule
	$(GO) run ./cmd/bench

# A number of runs, as a time makes Go's fuzzing end with an error now and then.
FUZZTIME = 100000x
fuzz: ## Run every fuzz target for FUZZTIME.
	@for pkg in $$($(GO) list $(CORE) ./caddymodule); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep ^Fuzz); do \
			echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done; \
	done

GOLANGCI = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
lint: ## Check the style.
	GOFLAGS= CGO_ENABLED=0 go run $(GOLANGCI) run ./...

GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.9.0
vuln: ## Check the dependencies for known vulnerabilities.
	GOFLAGS= CGO_ENABLED=0 go run $(GOVULNCHECK) ./cmd/caddy ./caddymodule/... ./mcpbackend/...

clean:
	rm -rf bin artifacts
