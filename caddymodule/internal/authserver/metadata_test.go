package authserver_test

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

func TestTheMetadataIsTheSameAtAllPlacesWhereClientsLook(t *testing.T) {
	s := newSite(t)
	var first string
	for _, path := range []string{
		"/.well-known/oauth-authorization-server",
		"/.well-known/oauth-authorization-server/mcp", "/.well-known/oauth-authorization-server/sse", "/.well-known/oauth-authorization-server/admin",
		"/mcp/.well-known/oauth-authorization-server", "/sse/.well-known/oauth-authorization-server",
	} {
		resp := s.serve(request(http.MethodGet, path, nil))
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		h := resp.Header
		if resp.StatusCode != http.StatusOK || h.Get("Content-Type") != "application/json" || h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Cache-Control") != "public, max-age=300" {
			t.Errorf("%s: %d with headers %v", path, resp.StatusCode, h)
		}
		if first == "" {
			first = string(body)
		}
		if string(body) != first {
			t.Errorf("%s has another document: %s", path, body)
		}
	}
	for _, path := range []string{"/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/nothing", "/.well-known/oauth-authorization-server/"} {
		if _, ok := s.Endpoint(path); ok {
			t.Errorf("%s is there", path)
		}
	}
}

func TestTheMetadataSaysWhatTheServerDoes(t *testing.T) {
	read := func(change func(*authserver.Config)) (m oauth.AuthorizationServerMetadata) {
		s := newSite(t, change)
		if err := json.NewDecoder(s.serve(request(http.MethodGet, oauth.WellKnownServer, nil)).Body).Decode(&m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	m := read(func(*authserver.Config) {})
	methods := []string{"none", "client_secret_post", "client_secret_basic", "private_key_jwt"}
	algorithms := []string{"ES256", "ES384", "PS256", "RS256", "EdDSA"}
	switch {
	case m.Issuer != issuer, m.AuthorizationEndpoint != issuer+"/authorize", m.TokenEndpoint != issuer+"/token",
		m.RegistrationEndpoint != issuer+"/register", m.RevocationEndpoint != issuer+"/revoke", m.JWKSURI != issuer+"/jwks":
		t.Errorf("addresses are wrong: %+v", m)
	case !slices.Equal(m.CodeChallengeMethodsSupported, []string{"S256"}), !slices.Equal(m.ResponseTypesSupported, []string{"code"}),
		!slices.Equal(m.ResponseModesSupported, []string{"query"}), !m.AuthorizationResponseIssParameterSupported,
		!slices.Equal(m.GrantTypesSupported, []string{"authorization_code", "refresh_token", "client_credentials"}),
		!slices.Equal(m.TokenEndpointAuthSigningAlgValuesSupported, algorithms),
		!slices.Equal(m.RevocationEndpointAuthSigningAlgValues, algorithms), !m.ClientIDMetadataDocumentSupported,
		!slices.Equal(m.TokenEndpointAuthMethodsSupported, methods), !slices.Equal(m.RevocationEndpointAuthMethodsSupported, methods):
		t.Errorf("features are wrong: %+v", m)
	case !slices.Contains(m.ScopesSupported, "mcp"):
		t.Errorf("scopes are %q", m.ScopesSupported)
	}
	if m := read(func(c *authserver.Config) { c.Documents.Off = true }); m.ClientIDMetadataDocumentSupported {
		t.Error("metadata documents are off and published")
	}
	if m := read(func(c *authserver.Config) { c.Registration.Off = true }); m.RegistrationEndpoint != "" {
		t.Error("registration is off and published")
	}
	if m := read(func(c *authserver.Config) { c.PKCEPlain = true }); !slices.Equal(m.CodeChallengeMethodsSupported, []string{"S256", "plain"}) {
		t.Errorf("challenge methods are %q", m.CodeChallengeMethodsSupported)
	}
	if m := read(func(c *authserver.Config) { c.SignIn = false }); m.AuthorizationEndpoint != issuer+"/authorize" || slices.Contains(m.GrantTypesSupported, "authorization_code") {
		t.Errorf("without sign-in: %+v", m)
	}
}

// Addresses come from the configuration, whatever a request says about them.
func TestNoHeaderChangesAnAddress(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{oauth.WellKnownServer, "/", "/authorize?" + authorization(s.register()).Encode()} {
		for _, kind := range []string{"application/json", "text/html"} {
			r := accept(request(http.MethodGet, path, nil), kind)
			r.Host = "evil.example"
			for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix", "Forwarded", "X-Original-Url"} {
				r.Header.Set(name, "host=evil.example")
			}
			resp := s.serve(r)
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusOK || strings.Contains(string(body), "evil") {
				t.Errorf("%s as %s: %d, %v:\n%s", path, kind, resp.StatusCode, err, body)
			}
		}
	}
}

func TestPublicEndpointsAreOpenToAllOriginsWithoutCookies(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{"/token", "/register", "/revoke", "/jwks", oauth.WellKnownServer} {
		r := request(http.MethodOptions, path, nil)
		r.Header.Set("Origin", "https://inspector.example")
		r.Header.Set("Access-Control-Request-Method", "POST")
		h := s.serve(r).Header
		if h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Credentials") != "" ||
			!strings.Contains(h.Get("Access-Control-Allow-Headers"), "MCP-Protocol-Version") {
			t.Errorf("preflight of %s: %v", path, h)
		}
		for _, method := range []string{"GET", "HEAD", "POST", "DELETE"} {
			resp := s.serve(request(method, path, nil))
			if resp.Header.Get("Access-Control-Allow-Origin") != "*" || len(resp.Cookies()) != 0 {
				t.Errorf("%s %s: headers %v", method, path, resp.Header)
			}
		}
	}
}

func TestTheDescriptionNamesOnlyWhatIsThere(t *testing.T) {
	for _, c := range []struct {
		rule   string
		change func(*authserver.Config)
		names  []string
		auth   []any
	}{
		{"everything", func(c *authserver.Config) { c.Static = true },
			[]string{"/admin", "/mcp", "/messages", "/sse", "authorization_endpoint", "authorization_server", "health", "protected_resource", "registration_endpoint", "token_endpoint"},
			[]any{"oauth2.1", "bearer"}},
		{"registration is off", func(c *authserver.Config) { c.Registration.Off = true },
			[]string{"/admin", "/mcp", "/messages", "/sse", "authorization_endpoint", "authorization_server", "health", "protected_resource", "token_endpoint"},
			[]any{"oauth2.1"}},
		{"static tokens only", func(c *authserver.Config) { c.OAuth, c.SignIn, c.Static = false, false, true },
			[]string{"/admin", "/mcp", "/messages", "/sse", "health", "protected_resource"}, []any{"bearer"}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			s := newSite(t, c.change)
			a := s.program(accept(request(http.MethodGet, "/", nil), "application/json"))
			endpoints, _ := a.fields["endpoints"].(map[string]any)
			var names []string
			for name := range endpoints {
				names = append(names, name)
			}
			slices.Sort(names)
			if auth, _ := a.fields["authentication"].([]any); !slices.Equal(names, c.names) || !slices.Equal(auth, c.auth) {
				t.Errorf("got %q and %q, want %q and %q", names, auth, c.names, c.auth)
			}
			if p := s.browser().get("/"); p.status != http.StatusOK || !strings.Contains(p.body, resource) {
				t.Errorf("for browsers: %d", p.status)
			}
		})
	}
}

func TestKeysAndHealthArePublic(t *testing.T) {
	s := newSite(t)
	keys, _ := s.program(request(http.MethodGet, "/jwks", nil)).fields["keys"].([]any)
	if len(keys) != 1 {
		t.Fatalf("%d keys", len(keys))
	}
	key, _ := keys[0].(map[string]any)
	if key["alg"] != "ES256" || key["use"] != "sig" || key["d"] != nil || key["k"] != nil {
		t.Errorf("the key is %v", key)
	}
	if a := s.program(request(http.MethodGet, "/health", nil)); a.text("status") != "healthy" || len(a.fields) != 2 {
		t.Errorf("health is %v", a.fields)
	}
}
