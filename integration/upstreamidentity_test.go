package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// caller is what an assertion tells.
type caller struct {
	jwt.Claims
	ClientID string `json:"client_id"`
	Scope    string `json:"scope"`
	Email    string `json:"email"`
}

// wantAssertion checks an assertion as an upstream does: with the keys that it fetches once.
func (g *gateway) wantAssertion(t *testing.T, raw, audience string) caller {
	t.Helper()
	g.keepSecret(raw)
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(send(t, g.client, http.MethodGet, g.origin+"/jwks", "").body), &keys); err != nil {
		t.Fatal(err)
	}
	parsed, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatalf("%v: %q", err, raw)
	}
	var c caller
	if err := parsed.Claims(keys, &c); err != nil {
		t.Fatal(err)
	}
	if typ := parsed.Headers[0].ExtraHeaders[jose.HeaderType]; typ != "mcp-identity+jwt" {
		t.Errorf("the type of the assertion is %v", typ)
	}
	if err := c.Validate(jwt.Expected{Issuer: g.origin, AnyAudience: jwt.Audience{audience}, Time: time.Now()}); err != nil {
		t.Errorf("%v: %+v", err, c)
	}
	if good := time.Until(c.Expiry.Time()); good < 2*time.Minute || good > 5*time.Minute {
		t.Errorf("the assertion is good for %v", good)
	}
	return c
}

// TestAssertionForUpstream lets an upstream check who is calling, and others pretend to be somebody.
func TestAssertionForUpstream(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	const static = "a-static-token-of-the-test"
	g := startGateway(t, gatewayConfig{
		site: "mcp_auth " + rec.address + " {\n" + userLine + "\nbearer_token {env.STATIC}\nforward_assertion\n}", env: []string{"STATIC=" + static},
	})
	gr := g.newGrant(t, nil)
	wantStatus(t, "a call", g.call(t, g.client, "/mcp", gr.access), http.StatusOK)
	raw := rec.last(t).Header.Get("X-Mcp-Assertion")
	if c := g.wantAssertion(t, raw, g.origin+"/mcp"); c.Subject != userName || c.ClientID != gr.clientID || c.Scope != "mcp" || c.Email != userEmail {
		t.Errorf("the assertion is about %+v", c)
	}
	wantStatus(t, "another call", g.call(t, g.client, "/mcp", gr.access), http.StatusOK)
	if again := rec.last(t).Header.Get("X-Mcp-Assertion"); again != raw {
		t.Error("the second call of a token has an assertion of its own")
	}
	wantStatus(t, "a call with a static token", g.call(t, g.client, "/messages", static), http.StatusOK)
	if c := g.wantAssertion(t, rec.last(t).Header.Get("X-Mcp-Assertion"), g.origin+"/mcp"); c.Subject != "bearer" {
		t.Errorf("the assertion is about %+v", c)
	}

	t.Run("an assertion is no access token", func(t *testing.T) {
		wantStatus(t, "an assertion as a token", g.call(t, g.client, "/mcp", raw), http.StatusUnauthorized)
	})
	t.Run("clients make none", func(t *testing.T) {
		head := fmt.Sprintf("POST /mcp HTTP/1.1\r\nHost: localhost:%d\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n"+
			"X-Mcp-Assertion: forged\r\nx_mcp_assertion: forged\r\nX.Mcp-Assertion: forged\r\nConnection: x-mcp-assertion\r\n"+
			"Trailer: x-mcp-assertion, x_mcp_assertion\r\n", g.port, gr.access)
		rec.reset()
		status := g.statusH1(t, head+fmt.Sprintf("\r\n%x\r\n%s\r\n0\r\nX-Mcp-Assertion: forged\r\nx_mcp_assertion: forged\r\n\r\n", len(toolsCall), toolsCall))
		if status != http.StatusOK {
			t.Fatalf("got %d", status)
		}
		if got := rec.last(t).Header["X-Mcp-Assertion"]; len(got) != 1 || got[0] != raw {
			t.Errorf("the upstream gets %q", got)
		}
		if strings.Contains(rec.bytes(), "forged") {
			t.Errorf("this has reached the upstream:\n%s", rec.bytes())
		}
	})
	t.Run("a stolen key is replaced", func(t *testing.T) {
		if _, stderr, err := g.caddy("mcp-auth", "key", "rotate", "--immediately", "--address", g.admin); err != nil {
			t.Fatal(err, stderr)
		}
		wantStatus(t, "a call with a static token", g.call(t, g.client, "/mcp", static), http.StatusOK)
		g.wantAssertion(t, rec.last(t).Header.Get("X-Mcp-Assertion"), g.origin+"/mcp")
	})
}

// TestAssertionWithoutSignIn is about a site where nobody signs in: its keys are there all the same.
func TestAssertionWithoutSignIn(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	const static = "a-static-token-of-the-test"
	g := startGateway(t, gatewayConfig{
		site: "mcp_auth " + rec.address + " {\nbearer_token {env.STATIC}\nforward_assertion Authorization {\naudience https://bugs.internal\n}\n}",
		env:  []string{"STATIC=" + static},
	})
	wantStatus(t, "a call", g.call(t, g.client, "/mcp", static), http.StatusOK)
	raw, ok := strings.CutPrefix(rec.last(t).Header.Get("Authorization"), "Bearer ")
	if c := g.wantAssertion(t, raw, "https://bugs.internal"); !ok || c.Subject != "bearer" {
		t.Errorf("the assertion is about %+v", c)
	}
}

// TestUpstreamCredential gives each upstream a secret of its own, which clients neither learn nor replace.
func TestUpstreamCredential(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	g := startGateway(t, gatewayConfig{
		site: "mcp_auth " + rec.address + " {\n" + userLine + `
			upstream_credential {env.UPSTREAM}
			resource /a
			resource /b {
				upstream_credential X-Api-Key {env.OTHER}
			}
		}`,
		env: []string{"UPSTREAM=secret-of-the-upstream", "OTHER=key-of-the-other"},
	})
	g.keepSecret("secret-of-the-upstream", "key-of-the-other")
	a, b := g.newGrant(t, map[string][]string{"resource": {g.origin + "/a"}}), g.newGrant(t, map[string][]string{"resource": {g.origin + "/b"}})
	forged := []string{"X-Api-Key", "forged", "X_api_key", "forged", "Proxy-Authorization", "Bearer forged"}
	for _, tt := range []struct {
		path, token        string
		authorization, key string
	}{
		{"/a", a.access, "Bearer secret-of-the-upstream", ""},
		{"/b", b.access, "", "key-of-the-other"},
	} {
		got := send(t, g.client, http.MethodPost, g.origin+tt.path, toolsCall, append(forged, "Authorization", "Bearer "+tt.token)...)
		wantStatus(t, tt.path, got, http.StatusOK)
		h := rec.last(t).Header
		if h.Get("Authorization") != tt.authorization || h.Get("X-Api-Key") != tt.key || len(h.Values("X-Api-Key")) > 1 {
			t.Errorf("the upstream of %s gets %v", tt.path, h)
		}
	}
	if raw := rec.bytes(); strings.Contains(raw, "forged") || strings.Contains(raw, a.access) {
		t.Errorf("this has reached the upstream:\n%s", raw)
	}
	wantStatus(t, "an upstream that does not take the secret", g.call(t, g.client, "/a/status/401", a.access), http.StatusBadGateway)
	wantStatus(t, "no token", g.call(t, g.client, "/a", ""), http.StatusUnauthorized)
}
