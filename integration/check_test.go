package integration

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestCheck looks at a gateway with the command that operators have for it: at one that all is well with, at one whose
// MCP server is down, and at one that clients would refuse.
func TestCheck(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + startBackend(t) + " {\n" + userLine + "\ncors_origins http://localhost:6274\n}"})
	token := g.newGrant(t, nil).access
	g.keepSecret(token)
	g.config.env = append(g.config.env, "MCP_TOKEN="+token)

	type finding struct{ Name, Level, Text, Fix string }
	check := func(address string) (findings []finding, failed bool) {
		out, stderr, err := g.caddy("mcp-auth", "check", address, "--ca", g.caFile(), "--register", "--json")
		if jsonErr := json.Unmarshal([]byte(out), &findings); jsonErr != nil {
			t.Fatalf("it prints %q: %v %s", out, jsonErr, stderr)
		}
		return findings, err != nil
	}
	findings, failed := check(g.origin + "/mcp")
	if failed || len(findings) != 8 {
		t.Errorf("a good gateway has the findings %+v", findings)
	}
	for _, f := range findings {
		if f.Level != "ok" {
			t.Errorf("a good gateway has %+v", f)
		}
	}
	if findings, failed := check(g.origin + "/sse"); failed || findings[len(findings)-1].Level != "ok" {
		t.Errorf("the old transport has the findings %+v", findings)
	}
	if findings, failed := check(g.origin + "/mcp/"); !failed || findings[len(findings)-1].Name != "Resource" {
		t.Errorf("an address with a slash has the findings %+v", findings)
	}

	broken := startGateway(t, gatewayConfig{site: "mcp_auth 127.0.0.1:1 {\n bearer_token test-token-0123456789\n}"})
	g.config.env = []string{"MCP_TOKEN=test-token-0123456789"}
	out, stderr, err := g.caddy("mcp-auth", "check", broken.origin+"/mcp", "--ca", broken.caFile())
	if err == nil || !strings.Contains(stderr, "1 problem") || !strings.Contains(out, " ✗ Backend") || !strings.Contains(out, "Is the MCP server running") {
		t.Errorf("without an MCP server it prints\n%s", out)
	}
}
