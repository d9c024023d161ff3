package integration

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// TestQuickstart runs the demo as its first user does: it prints an address and a password, and that is enough to
// connect, over plain http on loopback as well. Started again, it knows its users and their apps.
func TestQuickstart(t *testing.T) {
	t.Parallel()
	g := &gateway{t: t, dir: t.TempDir(), port: freePort(t)}
	g.origin = fmt.Sprintf("http://localhost:%d", g.port)
	g.client = g.newClient(&http.Transport{DialContext: g.dial})
	https := freePort(t)

	first := startQuickstart(t, g, https)
	v := g.newVisitorNamed(t, "demo")
	v.password = first.password
	gr := g.newGrantFor(t, v, nil)
	wantTools(t, "with a person's token", g.call(t, g.client, "/mcp", gr.access))
	wantTools(t, "with the static token", g.call(t, g.client, "/mcp", first.token))
	wantStatus(t, "without a token", g.call(t, g.client, "/mcp", ""), http.StatusUnauthorized)

	if !g.loadRoots() {
		t.Fatal("the certificate is not where the message says")
	}
	secure := &gateway{t: t, dir: g.dir, port: https, origin: fmt.Sprintf("https://localhost:%d", https), roots: g.roots}
	secure.client = secure.newClient(secure.http2())
	wantTools(t, "over https", secure.call(t, secure.client, "/mcp", first.token))
	wantStatus(t, "over https with a token for plain http", secure.call(t, secure.client, "/mcp", gr.access), http.StatusUnauthorized)

	g.proc.stop()
	if g.proc.err != nil {
		t.Errorf("the demo ended with %v", g.proc.err)
	}
	g.client = g.newClient(&http.Transport{DialContext: g.dial})
	if again := startQuickstart(t, g, https); again != first {
		t.Error("started again, the demo has another account")
	}
	wantTools(t, "with the token from before", g.call(t, g.client, "/mcp", gr.access))
	gr.renew(t)
}

// demoAccount is what the demo prints.
type demoAccount struct{ password, token string }

// startQuickstart starts the demo and reads what it prints.
func startQuickstart(t *testing.T, g *gateway, https int) demoAccount {
	t.Helper()
	g.proc = startProcess(t, g.env(), caddyBinary, "mcp-auth", "quickstart", "--http-port", fmt.Sprint(g.port), "--https-port", fmt.Sprint(https))
	eventually(t, "the demo has started", func() bool {
		if !g.proc.running() {
			t.Fatalf("the demo ended: %v", g.proc.err)
		}
		return strings.Contains(g.proc.output.String(), "Ctrl-C to stop.")
	})
	message := g.proc.output.String()
	for _, line := range []string{g.origin + "/mcp", fmt.Sprintf("https://localhost:%d/mcp", https), g.caFile(), "Sign in as    demo"} {
		if !strings.Contains(message, line) {
			t.Errorf("the message does not say %q:\n%s", line, message)
		}
	}
	password := regexp.MustCompile(`with password (\S+)`).FindStringSubmatch(message)
	token := regexp.MustCompile(`Authorization: Bearer (\S+?)'`).FindStringSubmatch(message)
	if password == nil || token == nil {
		t.Fatalf("the message has no password or no token:\n%s", message)
	}
	return demoAccount{password[1], token[1]}
}
