package integration

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
)

// TestIntrospection lets a server of the configuration ask about tokens: it learns what is in those for it, and nothing
// of any other.
func TestIntrospection(t *testing.T) {
	t.Parallel()
	site := func(lines string) string {
		return "mcp_auth " + startRecorder(t).address + " {\n" + userLine + robotLines + `
		resource /mcp
		resource /admin
		client bugs-server {
			secret {env.BUGS_SECRET}
			` + lines + `
		}
		}`
	}
	config := gatewayConfig{site: site("introspect /mcp"), env: []string{"BUGS_SECRET=bugs-secret-1234"}}
	g := startGateway(t, config)
	g.keepSecret("bugs-secret-1234")
	ask := func(token string) string {
		t.Helper()
		a := g.postForm(t, "/introspect", url.Values{"token": {token}, "client_id": {"bugs-server"}, "client_secret": {"bugs-secret-1234"}})
		wantStatus(t, "introspection", a, http.StatusOK)
		return a.body
	}

	var metadata struct {
		Endpoint string `json:"introspection_endpoint"`
	}
	doc := send(t, g.client, http.MethodGet, g.origin+"/.well-known/oauth-authorization-server", "")
	if err := json.Unmarshal([]byte(doc.body), &metadata); err != nil || metadata.Endpoint != g.origin+"/introspect" {
		t.Errorf("the metadata names the endpoint %q, %v", metadata.Endpoint, err)
	}

	gr := g.newGrant(t, url.Values{"scope": {"bugs:read"}})
	var told map[string]any
	if err := json.Unmarshal([]byte(ask(gr.access)), &told); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"active": true, "scope": "bugs:read", "client_id": gr.clientID, "username": userEmail, "sub": userName,
		"aud": g.origin + "/mcp", "iss": g.origin, "token_type": "Bearer",
	} {
		if told[name] != want {
			t.Errorf("%s is %v, want %v", name, told[name], want)
		}
	}
	const inactive = `{"active":false}`
	foreign := g.newGrant(t, url.Values{"scope": {"bugs:read"}, "resource": {g.origin + "/admin"}})
	for what, token := range map[string]string{
		"a token for another resource": foreign.access, "a refresh token": gr.refresh, "junk": "junk",
	} {
		if got := ask(token); got != inactive {
			t.Errorf("%s: %s", what, got)
		}
	}
	wantStatus(t, "revoking", g.postForm(t, "/revoke", url.Values{"token": {gr.refresh}, "client_id": {gr.clientID}}), http.StatusOK)
	if got := ask(gr.access); got != inactive {
		t.Errorf("a revoked token: %s", got)
	}
	wantError(t, "asking as a public client", g.postForm(t, "/introspect", url.Values{"token": {foreign.access}, "client_id": {gr.clientID}}), "unauthorized_client")
	wantError(t, "asking for a token of its own", g.postForm(t, "/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {"bugs-server"}, "client_secret": {"bugs-secret-1234"},
	}), "unauthorized_client")

	// Without such a client there is no such endpoint.
	config.site = site("")
	if err := g.reload(config); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, "introspection that is off", g.postForm(t, "/introspect", url.Values{"token": {"x"}}), http.StatusNotFound)
}
