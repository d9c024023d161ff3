package caddymodule

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

func TestTheFirstCaddyfileIsGood(t *testing.T) {
	path := filepath.Join(t.TempDir(), "Caddyfile")
	if err := (door{"https://door.example:8443", "mcp-backend:3000"}).write(path); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Each example has to do what it says when its mark is taken away.
	examples := regexp.MustCompile(`(?m)^(\t+)#(\t*[^ \t])`)
	if n := len(examples.FindAll(written, -1)); n < 20 {
		t.Errorf("only %d lines of examples", n)
	}
	for name, text := range map[string]string{"as it is": string(written), "with all examples": examples.ReplaceAllString(string(written), "$1$2")} {
		config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v, %v in\n%s", name, err, warnings, text)
		}
		if !strings.Contains(string(config), `"door.example"`) || !strings.Contains(string(config), `"mcp-backend:3000"`) {
			t.Errorf("%s: the configuration is %s", name, config)
		}
	}

	// It is the operator's from now on.
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	err = door{"mcp.example.com", "localhost:3000"}.write(path)
	if err == nil || !strings.Contains(err.Error(), "--output") {
		t.Errorf("a second file: %v", err)
	}
	if now, _ := os.ReadFile(path); string(now) != "mine" {
		t.Errorf("the file is now %s", now)
	}
}

func TestAddressesThatWouldBeMoreInACaddyfile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "Caddyfile")
	for _, d := range []door{
		{"mcp.example.com {", "localhost:3000"}, {"a b", "localhost:3000"}, {"a,b", "localhost:3000"}, {"{env.X}", "localhost:3000"},
		{":8443", "localhost:3000"}, {"mcp.example.com/mcp", "localhost:3000"}, {"", "localhost:3000"}, {"x\n}", "localhost:3000"},
		{"mcp.example.com", "localhost:3000 {"}, {"mcp.example.com", "a\"b"}, {"mcp.example.com", "a\nb"}, {"mcp.example.com", "\u00a0"},
		{"mcp.example.com", ""},
	} {
		if err := d.write(path); err == nil || !strings.Contains(err.Error(), "Write, for example: ") {
			t.Errorf("%q and %q: %v", d.Address, d.Upstream, err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Fatalf("%q and %q are written", d.Address, d.Upstream)
		}
	}
}

func TestAProxyRemembersPasswords(t *testing.T) {
	file := proxyUsers(filepath.Join(t.TempDir(), "mcp_auth", "proxy-users.json"))
	typed := func(password string) *os.File {
		path := filepath.Join(t.TempDir(), "typed")
		if err := os.WriteFile(path, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	alice, err := file.hash(typed("the password of alice"), "alice", false)
	if err != nil {
		t.Fatal(err)
	}
	bob, err := file.hash(typed("the password of bob"), "bob", false)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := file.hash(typed("nothing is asked"), "alice", false); err != nil || again != alice || again == bob {
		t.Errorf("the next time the hash is %s, %v", again, err)
	}
	if _, err := file.hash(typed("short"), "alice", true); err == nil {
		t.Error("a short password is taken")
	}
	if next, err := file.hash(typed("another password"), "alice", true); err != nil || next == alice {
		t.Errorf("a new password has the hash %s, %v", next, err)
	}
	if info, err := os.Stat(string(file)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", info, err)
	}
	if err := os.WriteFile(string(file), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := file.hash(typed("the password of alice"), "alice", false); err == nil || !strings.Contains(err.Error(), "delete it") {
		t.Errorf("a damaged file: %v", err)
	}
}
