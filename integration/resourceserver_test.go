package integration

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// robotLines make one gateway issue tokens without a browser.
const robotLines = `
		client robot {
			secret robot-secret-1234
			grant_types client_credentials
		}
		scope bugs:read "Read bugs"
		scope bugs:write "Write bugs"`

// robotToken asks a gateway for a token of the robot.
func (g *gateway) robotToken(t *testing.T, scope string) string {
	t.Helper()
	a := g.postForm(t, "/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {"robot"}, "client_secret": {"robot-secret-1234"}, "scope": {scope},
	})
	wantStatus(t, "client credentials", a, http.StatusOK)
	return a.field(t, "access_token")
}

// TestResourceServer lets one gateway issue tokens and others check them: they know nothing of each other but the issuer's
// name and what it publishes.
func TestResourceServer(t *testing.T) {
	t.Parallel()
	issuer := startGateway(t, gatewayConfig{site: "mcp_auth " + startRecorder(t).address + " {\n" + userLine + robotLines + "\n}"})
	trust := []string{"SSL_CERT_FILE=" + issuer.caFile()}
	rec, other := startRecorder(t), startRecorder(t)
	site := func(upstream, audience string) gatewayConfig {
		return gatewayConfig{env: trust, site: "mcp_auth " + upstream + ` {
			authorization_server ` + issuer.origin + ` {
				` + audience + `
			}
			scope bugs:read "Read bugs"
			bearer_token static-token-of-the-test
			forward X-Who {http.auth.user.id}
		}`}
	}
	all := startGateways(t, site(rec.address, "audience "+issuer.origin+"/mcp"), site(other.address, ""))
	g, strict := all[0], all[1]

	// What a client finds there leads to the issuer.
	challenge := g.call(t, g.client, "/mcp", "").header.Get("WWW-Authenticate")
	if want := `resource_metadata="` + g.origin + `/.well-known/oauth-protected-resource/mcp", scope="bugs:read"`; !strings.Contains(challenge, want) {
		t.Errorf("the challenge is %q, want %s", challenge, want)
	}
	metadata := send(t, g.client, http.MethodGet, g.origin+"/.well-known/oauth-protected-resource/mcp", "")
	if want := `"authorization_servers":["` + issuer.origin + `"]`; !strings.Contains(metadata.body, want) {
		t.Errorf("the metadata is %s, want %s", metadata.body, want)
	}
	for _, path := range []string{"/.well-known/oauth-authorization-server", "/token", "/authorize", "/register"} {
		wantStatus(t, path, send(t, g.client, http.MethodGet, g.origin+path, ""), http.StatusNotFound)
	}

	good := issuer.robotToken(t, "bugs:read")
	wantStatus(t, "a token of the issuer", g.call(t, g.client, "/mcp", good), http.StatusOK)
	if got := rec.last(t).Header.Get("X-Who"); got != "robot" {
		t.Errorf("the upstream is told that %q calls", got)
	}
	wantStatus(t, "another scope", g.call(t, g.client, "/mcp", issuer.robotToken(t, "bugs:write")), http.StatusForbidden)
	wantStatus(t, "a changed token", g.call(t, g.client, "/mcp", good[:len(good)-10]+"AAAAAAAAAA"), http.StatusUnauthorized)
	wantStatus(t, "a static token", g.call(t, g.client, "/mcp", "static-token-of-the-test"), http.StatusOK)
	wantStatus(t, "a token for another server", strict.call(t, strict.client, "/mcp", good), http.StatusUnauthorized)
	if n := len(other.seen()); n != 0 {
		t.Errorf("%d requests with tokens for another server got through", n)
	}

	// The issuer may rotate its keys, and be away.
	if _, stderr, err := issuer.caddy("mcp-auth", "key", "rotate", "--immediately", "--address", issuer.admin); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	fresh, later := issuer.robotToken(t, "bugs:read"), issuer.robotToken(t, "bugs:read")
	wantStatus(t, "a token of a new key", g.call(t, g.client, "/mcp", fresh), http.StatusOK)
	issuer.proc.stop()
	wantStatus(t, "a token that was used before, with the issuer away", g.call(t, g.client, "/mcp", fresh), http.StatusOK)
	wantStatus(t, "another one", g.call(t, g.client, "/mcp", later), http.StatusOK)
}

// TestResourceServerWithoutIssuer starts while the issuer is down: its tokens are not refused, as nobody can tell.
func TestResourceServerWithoutIssuer(t *testing.T) {
	t.Parallel()
	issuer := newGateway(t, gatewayConfig{site: "mcp_auth " + startRecorder(t).address + " {\n" + userLine + robotLines + "\n}"})
	issuer.start()
	token := issuer.robotToken(t, "bugs:read")
	issuer.proc.stop()
	g := startGateway(t, gatewayConfig{
		env:  []string{"SSL_CERT_FILE=" + issuer.caFile()},
		site: "mcp_auth " + startRecorder(t).address + " {\nauthorization_server " + issuer.origin + " {\naudience " + issuer.origin + "/mcp\n}\n}",
	})
	for range 2 {
		a := g.call(t, g.client, "/mcp", token)
		wantStatus(t, "while the issuer is down", a, http.StatusServiceUnavailable)
		if a.header.Get("Retry-After") == "" {
			t.Error("there is no Retry-After")
		}
	}
	wantStatus(t, "something that is no token of the issuer", g.call(t, g.client, "/mcp", "opaque-0123456789"), http.StatusUnauthorized)
	issuer.start()
	eventually(t, "tokens are good again", func() bool { return g.call(t, g.client, "/mcp", token).status == http.StatusOK })
}
