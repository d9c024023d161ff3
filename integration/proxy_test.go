package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestProxyCommand protects a server by one command. Started again, it asks nobody for a password, and everybody is still
// connected.
func TestProxyCommand(t *testing.T) {
	t.Parallel()
	backend := startBackend(t)
	g := &gateway{t: t, dir: t.TempDir(), port: freePort(t), config: gatewayConfig{env: []string{fmt.Sprintf("CADDY_ADMIN=127.0.0.1:%d", freePort(t))}}}
	g.origin = fmt.Sprintf("http://localhost:%d", g.port)
	g.client = g.newClient(&http.Transport{DialContext: g.dial})
	typed := filepath.Join(g.dir, "typed")
	if err := os.WriteFile(typed, []byte("a password of bob\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start := func(input string, args ...string) {
		t.Helper()
		args = append([]string{"-c", `exec "$0" mcp-auth proxy "$@" <` + input, caddyBinary, "--from", g.origin, "--to", backend}, args...)
		g.proc = startProcess(t, g.env(), "sh", args...)
		eventually(t, "the proxy has started", func() bool {
			if !g.proc.running() {
				t.Fatalf("the proxy ended: %v", g.proc.err)
			}
			return strings.Contains(g.proc.output.String(), "Ctrl-C to stop.")
		})
	}

	start(typed, "--user", "bob")
	wantStatus(t, "without a token", g.call(t, g.client, "/mcp", ""), http.StatusUnauthorized)
	v := g.newVisitorNamed(t, "bob")
	v.password = "a password of bob"
	gr := g.newGrantFor(t, v, nil)
	wantTools(t, "with bob's token", g.call(t, g.client, "/mcp", gr.access))
	g.proc.stop()
	if g.proc.err != nil || strings.Contains(g.proc.output.String(), "a password of bob") {
		t.Errorf("the proxy ended with %v", g.proc.err)
	}

	g.client = g.newClient(&http.Transport{DialContext: g.dial})
	start("/dev/null", "--user", "bob")
	wantTools(t, "with the token from before", g.call(t, g.client, "/mcp", gr.access))
	gr.renew(t)
	g.proc.stop()

	// Without anybody it goes by a token, which a command shows.
	g.client = g.newClient(&http.Transport{DialContext: g.dial})
	start("/dev/null")
	shown, _, err := g.caddy("mcp-auth", "token", "show")
	token := regexp.MustCompile(`token: +(\S+)`).FindStringSubmatch(shown)
	if err != nil || token == nil {
		t.Fatalf("the token is %q, %v", shown, err)
	}
	wantTools(t, "with the generated token", g.call(t, g.client, "/mcp", token[1]))
}

// TestInitCommand writes a first Caddyfile, which Caddy takes as it is, and never another one over it.
func TestInitCommand(t *testing.T) {
	t.Parallel()
	g := &gateway{t: t, dir: t.TempDir()}
	file := filepath.Join(g.dir, "Caddyfile")
	stdout, stderr, err := g.caddy("mcp-auth", "init", "mcp.example.com", "localhost:3000", "--output", file)
	if err != nil || !strings.Contains(stdout, "caddy run --config "+file) {
		t.Fatalf("it prints %q, %q, %v", stdout, stderr, err)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, stderr, err := g.caddy("validate", "--config", file, "--adapter", "caddyfile"); err != nil {
		t.Errorf("Caddy does not take it: %s", stderr)
	}
	if stdout, _, err := g.caddy("fmt", file); err != nil || stdout != string(before) {
		t.Errorf("it is not formatted: %v", err)
	}
	if _, stderr, err := g.caddy("mcp-auth", "init", "--output", file); err == nil || !strings.Contains(stderr, "is there already") {
		t.Errorf("a second time: %s, %v", stderr, err)
	}
	if after, _ := os.ReadFile(file); string(after) != string(before) {
		t.Error("the file has changed")
	}
}
