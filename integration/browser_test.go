package integration

import (
	"encoding/json"
	"path/filepath"
	"strconv"
	"testing"
)

// artifacts is where the pictures of the pages are kept. It is not part of the repository.
const artifacts = "artifacts"

// TestPeopleInBrowser sends Chromium, without JavaScript, through the pages as people who sign in, agree, cancel, err,
// remove apps and sign out.
func TestPeopleInBrowser(t *testing.T) {
	t.Parallel()
	runBrowser(t, "flows")
}

// TestPagesInBrowser has axe look at every page, in light and dark and on wide and narrow screens, and Chromium complain
// of what a page does against its own policy.
func TestPagesInBrowser(t *testing.T) {
	t.Parallel()
	runBrowser(t, "audits")
}

// TestBrowserProtections has pages of other sites try what Chromium keeps them from, by what the gateway tells it.
func TestBrowserProtections(t *testing.T) {
	t.Parallel()
	runBrowser(t, "protections")
}

// runBrowser runs the scenarios of a file in node/browser, each as a test of its own.
func runBrowser(t *testing.T, scenarios string) {
	t.Helper()
	needNode(t)
	chromium := needTool(t, "chromium", "chromium-browser", "google-chrome")
	dir, err := filepath.Abs(artifacts)
	if err != nil {
		t.Fatal(err)
	}
	pages := strconv.Itoa(freePort(t)) // where the pages of other sites are
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + startBackend(t) + ` {
		name "Cisco Support"
		` + userLine + `
		user bob ` + userHash + `
		user carol ` + userHash + `
		scope mcp "Search and read Cisco bugs"
		scope cases:write "Change support cases" {
			optional
		}
		device_authorization
		client nightly-report {
			name "Nightly report"
			redirect_uris https://report.example/callback
		}
		cors_origins http://127.0.0.1:` + pages + `
	}`})
	env := g.trusting("PAGES_PORT="+pages, "GATEWAY="+g.origin, "MCP_PASSWORD="+userPassword, "CHROMIUM="+chromium, "ARTIFACTS="+dir)
	seen := 0
	for _, line := range runScript(t, env, "browser.mjs", scenarios) {
		var scenario struct {
			Name, Error string
			Secrets     []string
			Done        *int
		}
		if err := json.Unmarshal([]byte(line), &scenario); err != nil {
			t.Fatalf("browser.mjs printed no JSON: %v: %s", err, line)
		}
		if scenario.Done != nil {
			if *scenario.Done != seen || seen == 0 {
				t.Errorf("%d scenarios of %d were reported", seen, *scenario.Done)
			}
			return
		}
		seen++
		g.keepSecret(scenario.Secrets...)
		t.Run(scenario.Name, func(t *testing.T) {
			if scenario.Error != "" {
				t.Error(scenario.Error)
			}
		})
	}
	t.Errorf("browser.mjs ended after %d scenarios", seen)
}
