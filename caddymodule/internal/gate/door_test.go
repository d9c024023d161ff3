package gate_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/gate"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

const (
	issuer      = "https://mcp.example.com"
	staticToken = "static-token-of-the-config"
	narrowToken = "static-token-for-admins"
)

// door is a gate with all that makes and breaks tokens.
type door struct {
	*gate.Gate
	t           testing.TB
	store       *storetest.Faulty
	keys        *token.Keys
	revocations *token.Revocations
}

func newDoor(t testing.TB, change ...func(*gate.Config)) *door {
	t.Helper()
	d := &door{t: t, store: storetest.NewFaulty(memstore.New(0))}
	t.Cleanup(func() { _ = d.store.Close() })
	var err error
	if d.keys, err = token.OpenKeys(t.Context(), d.store, "test/", token.KeysConfig{}); err != nil {
		t.Fatal(err)
	}
	if d.revocations, err = token.OpenRevocations(t.Context(), d.store, "test/", zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	cfg := gate.Config{
		Resources: []*oauth.Resource{
			testResource("/mcp", 1, "mcp", "bugs:write"), testResource("/sse", 1, "mcp", "bugs:write"),
			testResource("/messages", 1, "mcp", "bugs:write"), testResource("/mcp/admin", 2, "admin"),
		},
		Issuers: []string{issuer}, Verifier: token.NewVerifier(issuer, d.keys, d.revocations, nil), ResourcesOnly: true,
		Static:      []gate.StaticToken{static(staticToken, "mcp", "admin"), static(narrowToken, "admin")},
		CORSOrigins: []string{"http://localhost:6274"}, AllowOrigins: []string{"null"},
		ForwardHeaders: []string{"X-Who", "X-Forwarded-Proto"}, Cookies: ownCookies,
	}
	for _, f := range change {
		f(&cfg)
	}
	d.Gate = gate.New(cfg)
	return d
}

func testResource(path string, group int, names ...string) *oauth.Resource {
	return &oauth.Resource{Origin: issuer, Path: path, Name: "Bugs", Scopes: names, Baseline: names[:1], Group: group}
}

func static(secret string, scopes ...string) gate.StaticToken {
	claims := &token.Claims{Scopes: scopes}
	claims.Subject = "static"
	return gate.NewStaticToken(secret, claims)
}

// mint makes a token for the resource; change sees its claims before.
func (d *door) mint(path, scope string, change ...func(*oauth.AccessTokenClaims)) string {
	d.t.Helper()
	claims := oauth.AccessTokenClaims{
		Issuer: issuer, Subject: "alice", Audience: issuer + path, ClientID: "mcp_1", Scope: scope, GrantID: "grant",
	}
	for _, f := range change {
		f(&claims)
	}
	raw, err := d.keys.Mint(claims, time.Hour)
	if err != nil {
		d.t.Fatal(err)
	}
	return raw
}

func request(method, target string, header ...string) *http.Request {
	r := httptest.NewRequest(method, issuer+target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

// check asks the gate, and reads the refusal if there is one.
func (d *door) check(r *http.Request) (*token.Claims, *gate.Refused, *http.Response) {
	d.t.Helper()
	w := httptest.NewRecorder()
	pass, refused := d.Check(w, r, r.URL.Path)
	claims := pass.Claims
	if refused == nil && (w.Body.Len() > 0 || len(w.Header()) > 0) {
		d.t.Errorf("%s %s: let through after an answer was written: %v %s", r.Method, r.URL, w.Header(), w.Body)
	}
	if refused != nil && claims != nil {
		d.t.Errorf("%s %s: refused, and there are claims", r.Method, r.URL)
	}
	return claims, refused, w.Result()
}

func body(t *testing.T, resp *http.Response) []byte {
	t.Helper()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
