package gate_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/gate"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

func TestMetadataIsWhereClientsLook(t *testing.T) {
	d := newDoor(t)
	for path, want := range map[string]string{
		"/.well-known/oauth-protected-resource":           issuer,
		"/.well-known/oauth-protected-resource/mcp":       issuer + "/mcp",
		"/.well-known/oauth-protected-resource/sse":       issuer + "/sse",
		"/.well-known/oauth-protected-resource/mcp/admin": issuer + "/mcp/admin",
		"/mcp/.well-known/oauth-protected-resource":       issuer + "/mcp",
		"/sse/.well-known/oauth-protected-resource":       issuer + "/sse",
	} {
		w := httptest.NewRecorder()
		if !d.Metadata(w, request("GET", path), path) {
			t.Errorf("%s is not taken", path)
		}
		var m oauth.ProtectedResourceMetadata
		if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil || w.Code != http.StatusOK || m.Resource != want ||
			!slices.Equal(m.AuthorizationServers, []string{issuer}) || !slices.Equal(m.BearerMethodsSupported, []string{"header"}) {
			t.Errorf("%s: %d %s (%v)", path, w.Code, w.Body, err)
		}
		if path != "/.well-known/oauth-protected-resource/mcp/admin" && !slices.Equal(m.ScopesSupported, []string{"mcp"}) {
			t.Errorf("%s: scopes are %q, want the baseline", path, m.ScopesSupported)
		}
		if w.Header().Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: headers are %v", path, w.Header())
		}
	}
}

func TestNoWellKnownPathReachesTheUpstream(t *testing.T) {
	d := newDoor(t)
	for _, path := range []string{
		"/.well-known", "/.well-known/", "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server",
		"/mcp/.well-known/openid-configuration", "/.well-known/oauth-protected-resource/other", "/token/.well-known/openid-configuration",
		"/.well-known/oauth-protected-resource/",
	} {
		for _, method := range []string{"GET", "HEAD", "POST"} {
			w := httptest.NewRecorder()
			if !d.Metadata(w, request(method, path), path) || w.Code != http.StatusNotFound || !json.Valid(w.Body.Bytes()) ||
				w.Header().Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
			}
		}
	}
	const known = "/.well-known/oauth-protected-resource"
	for method, status := range map[string]int{"GET": 200, "HEAD": 200, "OPTIONS": 204, "POST": 405, "BREW": 405} {
		w := httptest.NewRecorder()
		if !d.Metadata(w, request(method, known), known) || w.Code != status {
			t.Errorf("%s: %d, want %d", method, w.Code, status)
		}
	}
	for _, path := range []string{"/", "/mcp", "/well-known/x", "/mcp/.well-knownx", "/x.well-known"} {
		w := httptest.NewRecorder()
		if d.Metadata(w, request("GET", path), path) || w.Body.Len() > 0 {
			t.Errorf("%s is taken for a well-known path", path)
		}
	}
}

// Without an authorization server the metadata must not send clients to one.
func TestWithoutAnIssuerNoAuthorizationServerIsNamed(t *testing.T) {
	d := newDoor(t, func(c *gate.Config) { c.Issuers, c.Verifier = nil, nil })
	_, _, resp := d.check(request("POST", "/mcp"))
	if got := resp.Header.Get("WWW-Authenticate"); got != "Bearer "+metadata {
		t.Errorf("the challenge is %s", got)
	}
	_, refused, _ := d.check(request("POST", "/mcp", "Authorization", "Bearer "+d.mint("/mcp", "mcp")))
	if refused == nil || refused.Status != 401 {
		t.Errorf("a token of some issuer: %v", refused)
	}
	w := httptest.NewRecorder()
	d.Metadata(w, request("GET", oauth.WellKnownResource), oauth.WellKnownResource)
	if strings.Contains(w.Body.String(), "authorization_servers") || strings.Contains(w.Body.String(), "scopes_supported") {
		t.Errorf("the document is %s", w.Body)
	}
}
