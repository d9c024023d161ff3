package integration

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// scopedSite has a scope that clients get by default and one that people opt in to.
func scopedSite(upstream, more string) string {
	return "mcp_auth " + upstream + ` {
		name "Cisco Support"
		` + userLine + `
		scope bugs:read "Search and read Cisco bugs"
		scope cases:write "Change support cases" {
			optional
		}
		` + more + `
	}`
}

// metadata is what clients read of both documents of discovery.
type metadata struct {
	Resource              string
	AuthorizationServers  []string `json:"authorization_servers"`
	ScopesSupported       []string `json:"scopes_supported"`
	BearerMethods         []string `json:"bearer_methods_supported"`
	Issuer                string
	AuthorizationEndpoint string   `json:"authorization_endpoint"`
	TokenEndpoint         string   `json:"token_endpoint"`
	RegistrationEndpoint  string   `json:"registration_endpoint"`
	RevocationEndpoint    string   `json:"revocation_endpoint"`
	ResponseTypes         []string `json:"response_types_supported"`
	ChallengeMethods      []string `json:"code_challenge_methods_supported"`
	TokenAuthMethods      []string `json:"token_endpoint_auth_methods_supported"`
	IssParameter          bool     `json:"authorization_response_iss_parameter_supported"`
}

// TestMetadataDocuments reads the documents of RFC 9728 and RFC 8414 at every place where clients look for them.
func TestMetadataDocuments(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: scopedSite(startRecorder(t).address, "")})
	read := func(t *testing.T, path string) (m metadata) {
		t.Helper()
		// What a request says about hosts must not find its way into a document.
		a := send(t, g.client, "GET", g.origin+path, "", "X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "http",
			"Forwarded", "host=evil.example;proto=http", "X-Forwarded-Prefix", "/evil", "Origin", "https://inspector.example")
		wantStatus(t, path, a, http.StatusOK)
		if a.header.Get("Content-Type") != "application/json" || a.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s is %s, open to %q", path, a.header.Get("Content-Type"), a.header.Get("Access-Control-Allow-Origin"))
		}
		if strings.Contains(a.body, "evil") || strings.Contains(a.body, "null") {
			t.Errorf("%s says %s", path, a.body)
		}
		if err := json.Unmarshal([]byte(a.body), &m); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return m
	}
	const wellKnown = "/.well-known/oauth-protected-resource"
	for path, resource := range map[string]string{
		wellKnown: "", wellKnown + "/mcp": "/mcp", wellKnown + "/sse": "/sse", "/mcp" + wellKnown: "/mcp", "/sse" + wellKnown: "/sse",
	} {
		m := read(t, path)
		if m.Resource != g.origin+resource || !slices.Equal(m.AuthorizationServers, []string{g.origin}) {
			t.Errorf("%s names the resource %s and the servers %q", path, m.Resource, m.AuthorizationServers)
		}
		if !slices.Equal(m.ScopesSupported, []string{"bugs:read"}) || !slices.Equal(m.BearerMethods, []string{"header"}) {
			t.Errorf("%s has the scopes %q and the methods %q", path, m.ScopesSupported, m.BearerMethods)
		}
	}
	const server = "/.well-known/oauth-authorization-server"
	for _, path := range []string{server, server + "/mcp", server + "/sse", "/mcp" + server} {
		m := read(t, path)
		for got, want := range map[string]string{
			m.Issuer: "", m.AuthorizationEndpoint: "/authorize", m.TokenEndpoint: "/token", m.RegistrationEndpoint: "/register", m.RevocationEndpoint: "/revoke",
		} {
			if got != g.origin+want {
				t.Errorf("%s names %s, want %s", path, got, g.origin+want)
			}
		}
		if !m.IssParameter || !slices.Equal(m.ChallengeMethods, []string{"S256"}) || !slices.Equal(m.ResponseTypes, []string{"code"}) {
			t.Errorf("%s says iss %v, challenges %q, responses %q", path, m.IssParameter, m.ChallengeMethods, m.ResponseTypes)
		}
		for _, method := range []string{"none", "client_secret_post", "client_secret_basic"} {
			if !slices.Contains(m.TokenAuthMethods, method) {
				t.Errorf("%s lacks the method %s", path, method)
			}
		}
	}
}

// TestDiscoveryMisses answers what is not there with JSON that pages of any origin may read: clients parse whatever
// they probe, and a partial openid-configuration would break them.
func TestDiscoveryMisses(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: scopedSite(startRecorder(t).address, "")})
	for _, path := range []string{
		"/.well-known/openid-configuration", "/.well-known/openid-configuration/mcp", "/mcp/.well-known/openid-configuration",
		"/token/.well-known/openid-configuration", "/.well-known/oauth-protected-resource/nothing", "/.well-known/oauth-authorization-server/nothing",
		"/.well-known/oauth-protected-resource/", "/.well-known/anything", "/.well-known/", "/nothing/.well-known/oauth-protected-resource",
	} {
		t.Run(path, func(t *testing.T) {
			for _, method := range []string{"GET", "HEAD", "POST"} {
				a := send(t, g.client, method, g.origin+path, "")
				wantStatus(t, method, a, http.StatusNotFound)
				if a.header.Get("Content-Type") != "application/json" || a.header.Get("Access-Control-Allow-Origin") != "*" {
					t.Errorf("%s: the answer is %s, open to %q", method, a.header.Get("Content-Type"), a.header.Get("Access-Control-Allow-Origin"))
				}
				if method == "GET" && a.field(t, "error") == "" {
					t.Errorf("the body names no error: %s", a.body)
				}
			}
		})
	}
}

// TestChallenge refuses requests without a good token before anything else about them counts, with one challenge that
// all clients can read.
func TestChallenge(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: scopedSite(startRecorder(t).address, "")})
	gr := g.newGrant(t, nil)
	gr.revoke(t)
	bearer := func(resource, prefix string) string {
		return "Bearer " + prefix + `resource_metadata="` + g.origin + "/.well-known/oauth-protected-resource" + resource + `", scope="bugs:read"`
	}
	invalid := `error="invalid_token", error_description="the token is malformed, expired, revoked or for another server", `
	for _, path := range []string{"/mcp", "/mcp/", "/mcp/below", "/sse"} {
		resource := "/" + strings.Split(path, "/")[1]
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"} {
			for authorization, want := range map[string]string{
				"": bearer(resource, ""), "Basic eDp5": bearer(resource, ""), "Bearer x": bearer(resource, invalid),
				"Bearer " + gr.access: bearer(resource, invalid), "Bearer": bearer(resource, invalid),
			} {
				var headers []string
				if authorization != "" {
					headers = []string{"Authorization", authorization}
				}
				a := send(t, g.client, method, g.origin+path, "", headers...)
				wantStatus(t, method+" "+path, a, http.StatusUnauthorized)
				if got := a.header.Values("WWW-Authenticate"); !slices.Equal(got, []string{want}) {
					t.Errorf("%s %s with %.10q: the challenge is %q, want %q", method, path, authorization, got, want)
				}
				if exposed := a.header.Get("Access-Control-Expose-Headers"); a.header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(exposed, "WWW-Authenticate") {
					t.Errorf("%s %s: pages cannot read the challenge: they see %q", method, path, exposed)
				}
			}
		}
	}
}

// TestBrowserClients sends what browsers send before a page of another origin may call: preflights pass without a
// token, answers are for the named origins only, and pages of ours are for nobody else.
func TestBrowserClients(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	const known, unknown = "https://inspector.example.com", "https://evil.example"
	g := startGateway(t, gatewayConfig{site: scopedSite(rec.address, "cors_origins "+known)})
	gr := g.newGrant(t, nil)
	for _, path := range []string{"/mcp", "/sse", "/messages", "/token", "/register", "/revoke", "/.well-known/oauth-authorization-server"} {
		a := send(t, g.client, "OPTIONS", g.origin+path, "", "Origin", known, "Access-Control-Request-Method", "POST",
			"Access-Control-Request-Headers", "authorization,content-type,mcp-protocol-version,mcp-param-region")
		wantStatus(t, "preflight of "+path, a, http.StatusNoContent)
		if origin := a.header.Get("Access-Control-Allow-Origin"); origin != "*" && origin != known || a.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("the preflight of %s is for %q", path, origin)
		}
		allowed := strings.ToLower(a.header.Get("Access-Control-Allow-Headers"))
		for _, name := range []string{"authorization", "content-type", "mcp-protocol-version", "mcp-session-id", "mcp-method", "mcp-name", "last-event-id"} {
			if !strings.Contains(allowed, name) {
				t.Errorf("the preflight of %s does not allow %s", path, name)
			}
		}
		if path == "/mcp" && !strings.Contains(allowed, "mcp-param-region") {
			t.Errorf("the preflight does not allow parameters in headers: %s", allowed)
		}
	}
	if n := len(rec.seen()); n > 0 {
		t.Errorf("%d preflights have reached the upstream", n)
	}
	post := func(origin string) *answer {
		return send(t, g.client, "POST", g.origin+"/mcp", toolsCall, "Authorization", "Bearer "+gr.access, "Origin", origin)
	}
	if a := post(known); a.status != http.StatusOK || a.header.Get("Access-Control-Allow-Origin") != known || !strings.Contains(a.header.Get("Vary"), "Origin") {
		t.Errorf("a page of %s gets %d for %q", known, a.status, a.header.Get("Access-Control-Allow-Origin"))
	}
	wantStatus(t, "a page of "+unknown, post(unknown), http.StatusForbidden)
	for _, path := range []string{"/authorize", "/account", "/login", "/logout"} {
		if a := send(t, g.client, "GET", g.origin+path, "", "Origin", known); a.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s is open to pages of other origins", path)
		}
	}
}
