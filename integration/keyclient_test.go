package integration

import (
	"encoding/json"
	"testing"
)

// TestServiceAccountWithKey lets both generations of the TypeScript SDK authenticate with private_key_jwt. The keys are
// on loopback, which a client of the configuration may name.
func TestServiceAccountWithKey(t *testing.T) {
	t.Parallel()
	needNode(t)
	docs := newDocumentServer(t)
	address, private := docs.publishKey(t, "/jwks.json")
	g := startGateway(t, gatewayConfig{env: docs.trust(), site: "mcp_auth " + startBackend(t) + ` {
		client robot {
			name "Robot"
			jwks_uri ` + address + `
			grant_types client_credentials
		}
	}`})
	for _, generation := range []string{"v1", "v2"} {
		t.Run(generation, func(t *testing.T) {
			env := g.trusting("MCP_SERVER="+g.origin+"/mcp", "CLIENT_ID=robot", "PRIVATE_KEY="+private)
			for _, line := range runScript(t, env, "service-account.mjs", generation) {
				var got struct {
					Bugs    int
					Scope   string
					Refresh bool
					Secrets []string
				}
				if err := json.Unmarshal([]byte(line), &got); err != nil {
					t.Fatalf("it printed no JSON: %v: %s", err, line)
				}
				g.keepSecret(got.Secrets...)
				if got.Bugs == 0 || got.Scope != "mcp" || got.Refresh {
					t.Errorf("it got %+v", got)
				}
			}
		})
	}
}
