package integration

import (
	"net/http"
	"strings"
	"testing"
)

// makeToken runs "caddy mcp-auth token create" and returns what it prints.
func makeToken(t *testing.T, g *gateway, args ...string) string {
	t.Helper()
	out, stderr, err := g.caddy(append([]string{"mcp-auth", "token", "create", "--address", g.admin}, args...)...)
	if err != nil {
		t.Fatalf("mcp-auth token create: %v: %s", err, stderr)
	}
	token := strings.TrimSuffix(out, "\n")
	if len(token) != 47 || !strings.HasPrefix(token, "mcp_") || strings.Contains(stderr, token) {
		t.Fatalf("mcp-auth token create prints %q and %q", out, stderr)
	}
	g.keepSecret(token)
	return token
}

func revokeToken(t *testing.T, g *gateway, name string) {
	t.Helper()
	if _, stderr, err := g.caddy("mcp-auth", "token", "revoke", name, "--address", g.admin); err != nil {
		t.Fatalf("mcp-auth token revoke: %v: %s", err, stderr)
	}
}

// TestTokenMadeByCommand makes a token for a script beside people who sign in, without a line of the Caddyfile, and
// takes it back. It survives a crash, and its streams end with it.
func TestTokenMadeByCommand(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + rec.address + " {\n" + userLine + "\nforward X-Who {http.auth.user.id}\n}"})
	person := g.newGrant(t, nil)
	script, other := makeToken(t, g, "nightly"), makeToken(t, g, "other", "--expires", "never")
	wantStatus(t, "a call", g.call(t, g.client, "/mcp", script), http.StatusOK)
	if who := rec.last(t).Header.Get("X-Who"); who != "token:nightly" {
		t.Errorf("the upstream sees %q", who)
	}
	g.restart(true)
	wantStatus(t, "a call after a crash", g.call(t, g.client, "/mcp", script), http.StatusOK)
	stream, kept := openStream(t, g.client, g.origin+"/sse", script), openStream(t, g.client, g.origin+"/sse", other)
	stream.want(endpointEvent)
	kept.want(endpointEvent)
	rec.reset()
	revokeToken(t, g, "nightly")
	refused := g.call(t, g.client, "/mcp", script)
	wantStatus(t, "a call with a revoked token", refused, http.StatusUnauthorized)
	if challenge := refused.header.Get("WWW-Authenticate"); !strings.HasPrefix(challenge, `Bearer error="invalid_token"`) {
		t.Errorf("the challenge is %q", challenge)
	}
	stream.wantEnd()
	if n := len(rec.seen()); n > 0 {
		t.Errorf("%d requests have reached the upstream", n)
	}
	wantStatus(t, "another token", g.call(t, g.client, "/mcp", other), http.StatusOK)
	wantStatus(t, "a person", g.call(t, g.client, "/mcp", person.access), http.StatusOK)
	kept.cancel()
	g.restart(false)
	wantStatus(t, "the revoked token after a restart", g.call(t, g.client, "/mcp", script), http.StatusUnauthorized)
}

// TestTokenMadeAtOtherNode makes and revokes tokens at one node that are used at the other.
func TestTokenMadeAtOtherNode(t *testing.T) {
	t.Parallel()
	one, two, _ := startNodes(t)
	script := makeToken(t, one, "nightly")
	two.keepSecret(script)
	eventually(t, "the node takes the token", func() bool {
		return two.call(t, two.client, "/mcp", script).status == http.StatusOK
	})
	stream := openStream(t, two.client, two.origin+"/sse", script)
	stream.want(endpointEvent)
	revokeToken(t, one, "nightly")
	refusedAt(t, two, script)
	stream.wantEnd()
}

// TestRegistrationByToken lets nobody register who does not have a token for it.
func TestRegistrationByToken(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + rec.address + " {\n" + userLine + "\nregistration {\ndynamic token\n}\n}"})
	initial := makeToken(t, g, "rollout", "--registration-only")
	register := func(token, body string) *answer {
		header := []string{"Content-Type", "application/json"}
		if token != "" {
			header = append(header, "Authorization", "Bearer "+token)
		}
		return send(t, g.client, "POST", g.origin+"/register", body, header...)
	}
	const people, machine = `{"redirect_uris":["http://localhost:1/cb"]}`, `{"grant_types":["client_credentials"]}`
	a := register("", people)
	wantStatus(t, "a stranger", a, http.StatusUnauthorized)
	if challenge := a.header.Get("WWW-Authenticate"); !strings.HasPrefix(challenge, "Bearer realm=") {
		t.Errorf("the challenge is %q", challenge)
	}
	wantStatus(t, "a client of people", register(initial, people), http.StatusCreated)
	a = register(initial, machine)
	wantStatus(t, "a service account", a, http.StatusCreated)
	g.keepSecret(a.field(t, "client_secret"))
	wantStatus(t, "the token at the MCP server", g.call(t, g.client, "/mcp", initial), http.StatusUnauthorized)
	revokeToken(t, g, "rollout")
	wantStatus(t, "after it was revoked", register(initial, people), http.StatusUnauthorized)
	if n := len(rec.seen()); n > 0 {
		t.Errorf("%d requests have reached the upstream", n)
	}
}
