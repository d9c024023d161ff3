package integration

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestRegistration registers what clients in the field send, and what attackers would.
func TestRegistration(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: scopedSite(startRecorder(t).address, "")})
	uris := func(list ...string) string {
		data, err := json.Marshal(map[string]any{"redirect_uris": list, "client_name": "Test"})
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for _, tt := range []struct{ name, body, refusal string }{
		{"mcp-remote", `{"redirect_uris":["http://localhost:21033/oauth/callback"],"token_endpoint_auth_method":"none",` +
			`"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"client_name":"MCP CLI Client",` +
			`"client_uri":"https://github.com/modelcontextprotocol/mcp-cli","software_id":"2e6dc280","software_version":"0.15.1",` +
			`"scope":"mcp:tools","application_type":"native"}`, ""},
		{"VS Code", `{"client_name":"Visual Studio Code","redirect_uris":["https://insiders.vscode.dev/redirect","https://vscode.dev/redirect",` +
			`"http://127.0.0.1/","http://127.0.0.1:33418/"],"grant_types":["authorization_code","refresh_token",` +
			`"urn:ietf:params:oauth:grant-type:device_code"],"token_endpoint_auth_method":"none","application_type":"native"}`, ""},
		{"Cursor", uris("cursor://anysphere.cursor-mcp/oauth/callback", "https://www.cursor.com/agents/mcp/oauth/callback", "http://localhost:8787/callback"), ""},
		{"claude.ai", uris("https://claude.ai/api/mcp/auth_callback"), ""},
		{"a host that names no method", `{"redirect_uris":["http://localhost:3001/callback"],"client_name":"My Web App","grant_types":["authorization_code","refresh_token"]}`, ""},
		{"unknown fields", `{"redirect_uris":["http://localhost:1/x"],"logo_uri":"https://x.example/l.png","contacts":["a@b.example"],"jwks":{"keys":[]},"x":{"y":[1]}}`, ""},
		{"script", uris("javascript:alert(1)"), "invalid_redirect_uri"},
		{"script in capitals", uris("JavaScript:alert(1)"), "invalid_redirect_uri"},
		{"data", uris("data:text/html,x"), "invalid_redirect_uri"},
		{"a file", uris("file:///etc/passwd"), "invalid_redirect_uri"},
		{"plain http elsewhere", uris("http://evil.example/callback"), "invalid_redirect_uri"},
		{"plain http on a name that looks local", uris("http://localhost.evil.example/callback"), "invalid_redirect_uri"},
		{"plain http in the private network", uris("http://192.168.1.1/callback"), "invalid_redirect_uri"},
		{"user information", uris("https://claude.ai@evil.example/callback"), "invalid_redirect_uri"},
		{"a fragment", uris("https://app.example/callback#x"), "invalid_redirect_uri"},
		{"a wildcard", uris("https://*.example/callback"), "invalid_redirect_uri"},
		{"a backslash", uris(`https://app.example\@evil.example/callback`), "invalid_redirect_uri"},
		{"a control character", uris("https://app.example/call\nback"), "invalid_redirect_uri"},
		{"no scheme", uris("//app.example/callback"), "invalid_redirect_uri"},
		{"one bad address among good ones", uris("https://app.example/callback", "javascript:alert(1)"), "invalid_redirect_uri"},
		{"no address", `{"client_name":"x"}`, "invalid_redirect_uri"},
		{"an empty list", uris(), "invalid_redirect_uri"},
		{"an address of the wrong type", `{"redirect_uris":[1]}`, "invalid_client_metadata"},
		{"a list", `[]`, "invalid_client_metadata"},
		{"no JSON", `redirect_uris=x`, "invalid_client_metadata"},
		{"two documents", uris("https://app.example/c") + uris("javascript:alert(1)"), "invalid_client_metadata"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := send(t, g.client, "POST", g.origin+"/register", tt.body, "Content-Type", "application/json")
			if tt.refusal != "" {
				wantError(t, "registering", a, tt.refusal)
				return
			}
			wantStatus(t, "registering", a, http.StatusCreated)
			wantRegistered(t, tt.body, a)
		})
	}
	t.Run("a form", func(t *testing.T) {
		a := send(t, g.client, "POST", g.origin+"/register", uris("https://app.example/c"), "Content-Type", formType)
		wantError(t, "registering", a, "invalid_client_metadata")
	})
}

// wantRegistered checks the answer as the strictest client does.
func wantRegistered(t *testing.T, asked string, a *answer) {
	t.Helper()
	type client struct {
		ClientID     string   `json:"client_id"`
		Secret       *string  `json:"client_secret"`
		Issued       int64    `json:"client_id_issued_at"`
		RedirectURIs []string `json:"redirect_uris"`
		Method       string   `json:"token_endpoint_auth_method"`
		GrantTypes   []string `json:"grant_types"`
	}
	var want, got client
	if err := json.Unmarshal([]byte(asked), &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	if got.ClientID == "" || strings.HasPrefix(got.ClientID, "https://") || got.Issued == 0 || !slices.Equal(got.RedirectURIs, want.RedirectURIs) {
		t.Errorf("the answer is %s", a.body)
	}
	// Clients that name no method are public here, whatever RFC 7591 says: most never send the secret.
	if got.Method != "none" || got.Secret != nil {
		t.Errorf("the method is %q; a secret is there: %v", got.Method, got.Secret != nil)
	}
	for _, grant := range got.GrantTypes {
		if grant != "authorization_code" && grant != "refresh_token" {
			t.Errorf("the client got the grant %s", grant)
		}
	}
	if strings.Contains(a.body, "null") || strings.Contains(a.body, `""`) || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control is %q, and the body %s", a.header.Get("Cache-Control"), a.body)
	}
}

// TestRegistrationPolicy keeps strangers out where the configuration says so, and lets known clients go on.
func TestRegistrationPolicy(t *testing.T) {
	t.Parallel()
	body := func(uri string) string { return `{"redirect_uris":["` + uri + `"],"client_name":"x"}` }
	rec := startRecorder(t)
	g := startGateway(t, gatewayConfig{site: scopedSite(rec.address, "")})
	gr := g.newGrant(t, nil)
	register := func(uri string) *answer {
		return send(t, g.client, "POST", g.origin+"/register", body(uri), "Content-Type", "application/json")
	}
	if err := g.reload(gatewayConfig{site: scopedSite(rec.address, "registration {\ndynamic claude.ai localhost\n}")}); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, "a listed host", register("https://claude.ai/api/mcp/auth_callback"), http.StatusCreated)
	wantStatus(t, "loopback", register("http://127.0.0.1:5/callback"), http.StatusCreated)
	wantError(t, "another host", register("https://evil.example/callback"), "invalid_redirect_uri")
	wantError(t, "a name that ends like a listed host", register("https://evilclaude.ai/callback"), "invalid_redirect_uri")
	wantError(t, "a name that begins like a listed host", register("https://claude.ai.evil.example/callback"), "invalid_redirect_uri")

	if err := g.reload(gatewayConfig{site: scopedSite(rec.address, "registration {\ndynamic off\n}")}); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, "anything, when it is off", register("https://claude.ai/api/mcp/auth_callback"), http.StatusForbidden)
	document := send(t, g.client, "GET", g.origin+"/.well-known/oauth-authorization-server", "")
	if strings.Contains(document.body, "registration_endpoint") {
		t.Error("the metadata still names the registration endpoint")
	}
	gr.renew(t)
	wantStatus(t, "a client from before", g.call(t, g.client, "/mcp", gr.access), http.StatusOK)
}
