package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDamagedStore damages the file of the default store in the ways that disks and people do. Caddy does not start, says
// in one line what is wrong with which file and what to do, and never begins anew with an empty store; "store check" says
// the same. With the file of before, everything is there again.
func TestDamagedStore(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + startBackend(t) + " {\n" + userLine + "\n}"})
	before := newStateOf(t, g)
	g.proc.stop()
	file := filepath.Join(g.dataDir(), "mcp_auth", "state.db")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	overwritten := func(from, to int) []byte {
		out := append([]byte{}, good...)
		copy(out[from:to], strings.Repeat("\xa5", to-from))
		return out
	}
	for _, tt := range []struct {
		name string
		data []byte
	}{
		{"empty", nil},
		{"cut off in the first page", good[:1000]},
		{"cut off in the middle", good[:len(good)/2]},
		{"another kind of file", []byte(strings.Repeat("this is a letter to my aunt\n", 4000))},
		{"the header overwritten", overwritten(0, 8192)},
		{"everything behind the header overwritten", overwritten(8192, len(good))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(file, tt.data, 0o600); err != nil {
				t.Fatal(err)
			}
			_, stderr, err := g.caddy("run", "--config", g.file(), "--adapter", "caddyfile")
			if err == nil {
				t.Error("Caddy ends without an error")
			}
			wantOneLine(t, stderr, file)
			if data, err := os.ReadFile(file); err != nil || string(data) != string(tt.data) {
				t.Errorf("the file was changed: %v", err)
			}
			stdout, stderr, err := g.caddy("mcp-auth", "store", "check", "--config", g.file(), "--adapter", "caddyfile")
			if err == nil || !strings.Contains(stdout+stderr, file) || strings.Contains(stderr, "panic") {
				t.Errorf("store check: %v\n%s%s", err, stdout, tail(stderr, 2000))
			}
		})
	}
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if stdout, stderr, err := g.caddy("mcp-auth", "store", "check", "--config", g.file(), "--adapter", "caddyfile"); err != nil {
		t.Errorf("store check of the good file: %v\n%s%s", err, stdout, tail(stderr, 2000))
	}
	g.start()
	before.check(t)
}

// wantOneLine wants the error of a failed start to be one line that names the file and the way out.
func wantOneLine(t *testing.T, stderr, file string) {
	t.Helper()
	var lines []string
	for line := range strings.Lines(stderr) {
		if strings.Contains(line, file) {
			lines = append(lines, line)
		}
	}
	if len(lines) != 1 || !strings.Contains(lines[0], "restore it from a backup") {
		t.Errorf("want one line about %s with the way out, got %q of\n%s", file, lines, tail(stderr, 2000))
	}
	if strings.Contains(stderr, "panic") || strings.Contains(stderr, "goroutine ") {
		t.Errorf("a panic:\n%s", tail(stderr, 2000))
	}
}
