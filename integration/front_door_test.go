package integration

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestFrontDoor puts the three lines of the manual in front of a plain MCP server.
func TestFrontDoor(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + startBackend(t)})

	a := g.call(t, g.client, "/mcp", "")
	wantStatus(t, "without a token", a, http.StatusUnauthorized)
	want := `Bearer resource_metadata="` + g.origin + `/.well-known/oauth-protected-resource/mcp"`
	if got := a.header.Values("WWW-Authenticate"); len(got) != 1 || got[0] != want {
		t.Errorf("WWW-Authenticate is %q, want only %q", got, want)
	}
	wantTools(t, "with the generated token", g.call(t, g.client, "/mcp", generatedToken(t, g)))
	wantStatus(t, "health", send(t, g.client, "GET", g.origin+"/health", ""), http.StatusOK)
	wantStatus(t, "a path of no resource", send(t, g.client, "GET", g.origin+"/whoami", ""), http.StatusNotFound)
}

// generatedToken is the token that the gateway made because none is configured, as the command shows it.
func generatedToken(t *testing.T, g *gateway) string {
	t.Helper()
	out, stderr, err := g.caddy("mcp-auth", "token", "show", "--json", "--address", g.admin)
	if err != nil {
		t.Fatalf("mcp-auth token show: %v: %s", err, stderr)
	}
	var shown []struct{ Site, Resource, Token string }
	if err := json.Unmarshal([]byte(out), &shown); err != nil || len(shown) != 1 {
		t.Fatalf("mcp-auth token show prints %q: %v", out, err)
	}
	if shown[0].Site != g.origin || shown[0].Resource != g.origin+"/mcp" || len(shown[0].Token) < 40 {
		t.Fatalf("mcp-auth token show names %s and %s", shown[0].Site, shown[0].Resource)
	}
	g.keepSecret(shown[0].Token)
	return shown[0].Token
}

// environmentSite is the Caddyfile for set-ups that are configured by environment variables.
func environmentSite(backend, more string) string {
	return `mcp_auth ` + backend + ` {
		auth_type {$AUTH_TYPE:auto}
		bearer_token {env.MCP_BEARER_TOKEN}
		registration {
			dynamic {$OAUTH2_ALLOW_DYNAMIC_REGISTRATION:on}
			` + more + `
		}
		dangerously_omit_auth {$DANGEROUSLY_OMIT_AUTH:false}
		` + userLine + `
	}`
}

// TestScriptWithBearerToken is the first example of the document that the product started from: a script with a
// static token, which posts a tools/call and reads JSON.
func TestScriptWithBearerToken(t *testing.T) {
	t.Parallel()
	const token = "my_cli_token_123"
	g := startGateway(t, gatewayConfig{
		site: environmentSite(startBackend(t), ""),
		env:  []string{"AUTH_TYPE=bearer", "MCP_BEARER_TOKEN=" + token},
	})
	g.keepSecret(token)

	t.Run("curl", func(t *testing.T) {
		out, stderr, err := runCommand(t, nil, needTool(t, "curl"), "--silent", "--show-error", "--fail", "--cacert", g.caFile(),
			"-X", "POST", g.origin+"/mcp", "-H", "Authorization: Bearer "+token, "-H", "Content-Type: application/json", "-d", toolsCall)
		if err != nil {
			t.Fatalf("curl: %v: %s", err, stderr)
		}
		wantBugs(t, out)
	})
	t.Run("Python", func(t *testing.T) {
		out, stderr, err := runCommand(t, []string{"MCP_SERVER=" + g.origin, "BEARER_TOKEN=" + token, "SSL_CERT_FILE=" + g.caFile()},
			needTool(t, "python3"), filepath.Join("testdata", "cli_tool.py"))
		if err != nil {
			t.Fatalf("python3: %v: %s", err, stderr)
		}
		wantBugs(t, out)
	})
	t.Run("the token is not in the configuration that the admin endpoint shows", func(t *testing.T) {
		config := send(t, http.DefaultClient, "GET", "http://"+g.admin+"/config/", "")
		if strings.Contains(config.body, token) || !strings.Contains(config.body, "{env.MCP_BEARER_TOKEN}") {
			t.Errorf("the configuration is %s", config.body)
		}
	})
	t.Run("a wrong token", func(t *testing.T) {
		wantStatus(t, "tools/call", g.call(t, g.client, "/mcp", token+"4"), http.StatusUnauthorized)
	})
}

// wantBugs fails the test when a JSON-RPC answer is not the result of a search.
func wantBugs(t *testing.T, body string) {
	t.Helper()
	var answer struct {
		Result struct {
			IsError           bool
			StructuredContent struct{ Bugs []map[string]any }
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatalf("the answer is no JSON: %v\n%s", err, body)
	}
	if answer.Result.IsError || len(answer.Result.StructuredContent.Bugs) == 0 {
		t.Errorf("the answer has no bugs: %s", body)
	}
}

// TestServiceAccount is the third example: a shell script that registers itself for client_credentials, gets a token
// and lists the tools. Registering without a person needs the opt-in.
func TestServiceAccount(t *testing.T) {
	t.Parallel()
	backend := startBackend(t)
	script := filepath.Join("testdata", "service_account.sh")

	t.Run("open", func(t *testing.T) {
		bash := needTool(t, "bash")
		needTool(t, "curl")
		needTool(t, "jq")
		g := startGateway(t, gatewayConfig{site: environmentSite(backend, "service_accounts open"), env: []string{"AUTH_TYPE=oauth2.1"}})
		out, stderr, err := runCommand(t, []string{"MCP_SERVER=" + g.origin, "CURL_CA_BUNDLE=" + g.caFile()}, bash, script)
		if err != nil {
			t.Fatalf("%v: %s\n%s", err, stderr, out)
		}
		if !strings.Contains(out, `"search_bugs_by_keyword"`) {
			t.Errorf("the script did not list the tools: %s", out)
		}
	})
	t.Run("without the opt-in", func(t *testing.T) {
		g := startGateway(t, gatewayConfig{site: environmentSite(backend, ""), env: []string{"AUTH_TYPE=oauth2.1"}})
		body := `{"client_name":"Monitoring Service","grant_types":["client_credentials"]}`
		a := send(t, g.client, "POST", g.origin+"/register", body, "Content-Type", "application/json")
		wantStatus(t, "registering", a, http.StatusUnauthorized)
	})
	t.Run("with an initial access token", func(t *testing.T) {
		const initial = "initial_access_token_1"
		g := startGateway(t, gatewayConfig{
			site: environmentSite(backend, ""), env: []string{"AUTH_TYPE=oauth2.1", "MCP_BEARER_TOKEN=" + initial},
		})
		body := `{"client_name":"Monitoring Service","grant_types":["client_credentials"]}`
		a := send(t, g.client, "POST", g.origin+"/register", body, "Content-Type", "application/json", "Authorization", "Bearer "+initial)
		wantStatus(t, "registering", a, http.StatusCreated)
		wantStatus(t, "the initial token itself", g.call(t, g.client, "/mcp", initial), http.StatusUnauthorized)
	})
}
