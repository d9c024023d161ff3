package integration

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// conformanceTime bounds one run of the official conformance suite.
const conformanceTime = time.Minute

// The suite is a program of the npm package @modelcontextprotocol/conformance. Its authorization scenarios print an
// address, wait for a browser and want to be called back; TestConformanceOfAuthorization is the person at that browser.
// It asks other servers without a token and has no option for one; node/lib/bearer.mjs adds it.
const conformanceSuite = "node/node_modules/@modelcontextprotocol/conformance/dist/index.js"

// TestConformanceOfAuthorization runs the official scenarios for authorization servers, with each kind of public client.
func TestConformanceOfAuthorization(t *testing.T) {
	t.Parallel()
	needNewNode(t)
	docs := newDocumentServer(t)
	document := docs.publishClient(t, "/client.json", "Conformance")
	g := startGateway(t, gatewayConfig{env: docs.trust(), site: "mcp_auth " + startBackend(t) + ` {
		` + userLine + `
		` + onLoopback + `
		client conformance {
			redirect_uris http://127.0.0.1/callback
		}
	}`})
	registered := g.register(t, map[string]any{"client_name": "Conformance", "redirect_uris": []string{"http://127.0.0.1/callback"}})
	for _, tt := range []struct{ name, client string }{
		{"a client that registers", registered},
		{"a client of the configuration", "conformance"},
		{"a client with a document", document},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run := startConformance(t, "gateway", g.trusting(), "authorization", "--url", g.origin, "--client-id", tt.client,
				"--resource", g.origin+"/mcp", "--port", fmt.Sprint(freePort(t)))
			var address string
			eventually(t, "the suite asks for a browser", func() bool {
				address = regexp.MustCompile(`(?m)^https://\S+/authorize\?\S+$`).FindString(run.output.String())
				return address != "" || !run.running()
			})
			if address == "" {
				t.Fatalf("the suite has ended without asking for a browser:\n%s", run.output.String())
			}
			handOff := g.newVisitor(t).get(address).signIn().submit("allow", nil)
			g.keepSecret(handOff.callback().Get("code"))
			wantStatus(t, "the callback", send(t, http.DefaultClient, http.MethodGet, handOff.next, ""), http.StatusOK)
			got := run.results(t)
			if passed, failed := got.count(); passed != 3 || failed != 0 {
				t.Errorf("%d checks passed and %d failed, want all 3 to pass:\n%s", passed, failed, got.faults())
			}
		})
	}
}

// TestConformanceOfServers runs the official scenarios for MCP servers twice: against a server alone, and against the same
// server through the gateway. No check may come out worse.
//
// The sites of the gateway take requests for every host, and speak plain HTTP, since a scenario pretends to be a page
// that has rebound its name to the loopback address: so it is mcp_auth that refuses it, and not the choice of a site.
func TestConformanceOfServers(t *testing.T) {
	t.Parallel()
	needNewNode(t)
	const token = "conformance_token_1234"
	backend, everything := startBackend(t), buildEverythingServer(t)
	tests := []struct {
		server, version, upstream string
		all                       bool // checks pass without the gateway
		port                      int
	}{
		{"mcpbackend", "2025-11-25", backend, false, freePort(t)},
		{"mcpbackend", "2026-07-28", backend, false, freePort(t)},
		{"everything", "2025-11-25", everything.start(t, "-stateless=false"), true, freePort(t)},
		{"everything", "2026-07-28", everything.start(t, "-stateless=true"), true, freePort(t)},
	}
	var sites strings.Builder
	for _, tt := range tests {
		fmt.Fprintf(&sites, "http://:%d {\nmcp_auth %s {\nissuer http://localhost:%d\nbearer_token %s\n}\n}\n", tt.port, tt.upstream, tt.port, token)
	}
	g := startGateway(t, gatewayConfig{site: "respond 404", sites: sites.String()})
	g.keepSecret(token)
	for _, tt := range tests {
		t.Run(tt.server+" "+tt.version, func(t *testing.T) {
			run := func(name, address string, env ...string) conformanceResults {
				return startConformance(t, name, env, "server", "--suite", "all", "--spec-version", tt.version, "--url", address).results(t)
			}
			alone := run("alone", "http://"+tt.upstream+"/mcp")
			through := run("gateway", fmt.Sprintf("http://localhost:%d/mcp", tt.port), "MCP_TOKEN="+token, "NODE_OPTIONS=--import=./node/lib/bearer.mjs")
			if _, failed := alone.count(); tt.all && failed > 0 {
				t.Errorf("without the gateway %d checks fail, which says that this test is wrong:\n%s", failed, alone.faults())
			}
			through.wantNoWorse(t, alone)
		})
	}
}

// conformanceRun is a run of the suite.
type conformanceRun struct {
	*process
	dir string // of its results
}

// startConformance runs scenarios of the suite. What it finds stays in the artifacts.
func startConformance(t *testing.T, name string, env []string, args ...string) *conformanceRun {
	t.Helper()
	dir := filepath.Join(artifacts, "conformance", t.Name(), name)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	args = append([]string{conformanceSuite}, append(args, "-o", dir)...)
	return &conformanceRun{startProcess(t, append([]string{"HOME=" + t.TempDir()}, env...), needNewNode(t), args...), dir}
}

// conformanceCheck is what the suite tells about one check.
type conformanceCheck struct {
	ID, Status, ErrorMessage string
	scenario                 string
}

type conformanceResults []conformanceCheck

// results waits for the end of a run and reads what it found. The suite writes a folder with a file for each scenario.
func (r *conformanceRun) results(t *testing.T) (out conformanceResults) {
	t.Helper()
	select {
	case <-r.exited:
	case <-time.After(conformanceTime):
		t.Fatalf("the suite is not done after %v:\n%s", conformanceTime, tail(r.output.String(), outputShown))
	}
	if err := os.WriteFile(filepath.Join(r.dir, "output.txt"), []byte(r.output.String()), 0o600); err != nil {
		t.Error(err)
	}
	files, err := filepath.Glob(filepath.Join(r.dir, "*", "checks.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the suite has left no results (%v):\n%s", err, tail(r.output.String(), outputShown))
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var checks conformanceResults
		if err := json.Unmarshal(data, &checks); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for i := range checks {
			checks[i].scenario = regexp.MustCompile(`^(authorization-)?server-|-\d{4}-\d\d-\d\dT.*`).ReplaceAllString(filepath.Base(filepath.Dir(file)), "")
		}
		out = append(out, checks...)
	}
	passed, failed := out.count()
	t.Logf("%d checks passed, %d failed: %s", passed, failed, strings.Join(r.cmd.Args[2:], " "))
	return out
}

// count tells how many checks have passed and failed. The suite itself leaves warnings and notes out.
func (r conformanceResults) count() (passed, failed int) {
	for _, c := range r {
		switch c.Status {
		case "SUCCESS":
			passed++
		case "FAILURE":
			failed++
		}
	}
	return passed, failed
}

// faults lists what did not pass.
func (r conformanceResults) faults() string {
	var out strings.Builder
	for _, c := range r {
		if c.Status != "SUCCESS" && c.Status != "INFO" {
			fmt.Fprintf(&out, "%s %s %s: %s\n", c.Status, c.scenario, c.ID, c.ErrorMessage)
		}
	}
	return out.String()
}

// of are the results of one check. Some are made several times.
func (r conformanceResults) of(c conformanceCheck) conformanceResults {
	return slices.DeleteFunc(slices.Clone(r), func(other conformanceCheck) bool { return other.scenario != c.scenario || other.ID != c.ID })
}

// wantNoWorse fails the test for each check that passes less often than in another run, or fails more often.
func (r conformanceResults) wantNoWorse(t *testing.T, alone conformanceResults) {
	t.Helper()
	checks := slices.CompactFunc(slices.SortedFunc(slices.Values(append(slices.Clone(alone), r...)), func(a, b conformanceCheck) int {
		return cmp.Or(strings.Compare(a.scenario, b.scenario), strings.Compare(a.ID, b.ID))
	}), func(a, b conformanceCheck) bool { return a.scenario == b.scenario && a.ID == b.ID })
	for _, c := range checks {
		passed, failed := r.of(c).count()
		passedAlone, failedAlone := alone.of(c).count()
		if passed < passedAlone || failed > failedAlone {
			t.Errorf("%s %s: %d passed and %d failed through the gateway, %d and %d without it:\n%s",
				c.scenario, c.ID, passed, failed, passedAlone, failedAlone, r.of(c).faults())
		}
	}
}

// everythingServer is the server of the Go SDK that implements all that the scenarios ask for.
type everythingServer struct{ binary string }

func buildEverythingServer(t *testing.T) everythingServer {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "everything-server")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags="+buildTags, "-o", binary,
		"github.com/modelcontextprotocol/go-sdk/conformance/everything-server")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the server of the Go SDK: %v\n%s", err, out)
	}
	return everythingServer{binary}
}

// start runs the server and returns its address.
func (s everythingServer) start(t *testing.T, mode string) string {
	t.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	p := startProcess(t, nil, s.binary, "-http", address, mode)
	eventually(t, "the server of the Go SDK listens", func() bool {
		if !p.running() {
			t.Fatalf("the server of the Go SDK ended: %v", p.err)
		}
		_, err := trySend(t.Context(), http.DefaultClient, http.MethodGet, "http://"+address, "")
		return err == nil
	})
	return address
}
