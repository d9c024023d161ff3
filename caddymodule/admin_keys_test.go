package caddymodule

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

func listedKeys(t *testing.T, m *machine, args ...string) []issuerKeys {
	t.Helper()
	out, err := runCommand(t, append(append([]string{"key"}, args...), "--json", "--address", m.admin)...)
	if err != nil {
		t.Fatal(err)
	}
	var issuers []issuerKeys
	if err := json.Unmarshal([]byte(out), &issuers); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return issuers
}

func TestSigningKeysAreListedAndRotated(t *testing.T) {
	m := newMachine(t).withAdmin()
	m.mustLoad("mcp_auth {\nstore memory\n}", "http://localhost:%[1]d {\nmcp_auth {\n"+robot+"}\nrespond ok\n}\n"+
		"http://localhost:%[2]d {\nmcp_auth {\n"+robot+"}\nrespond ok\n}")
	first, second := m.url("localhost", 1), m.url("localhost", 2)
	raw := m.robotToken(first, "")

	before := listedKeys(t, m, "list")
	if len(before) != 2 || len(before[0].Keys) != 1 || before[0].Keys[0].State != "current" {
		t.Fatalf("got %+v, want two issuers with a key each", before)
	}
	after := listedKeys(t, m, "rotate", "--issuer", first)
	if len(after) != 1 || after[0].Issuer != first || len(after[0].Keys) != 2 || after[0].Keys[0].State != "next" {
		t.Fatalf("after a rotation: %+v", after)
	}
	if lead := after[0].Keys[0].SignsFrom.Sub(after[0].Keys[0].Created); lead != token.PublishLead {
		t.Errorf("the new key signs after %v", lead)
	}
	m.status("a token of the key of before", first+"/mcp", raw, http.StatusOK)
	if jwks := m.get(first+"/jwks", "").body; !strings.Contains(jwks, after[0].Keys[0].ID) || !strings.Contains(jwks, after[0].Keys[1].ID) {
		t.Errorf("not all keys are published: %s", jwks)
	}
	text, err := runCommand(t, "key", "list", "--issuer", first, "--address", m.admin)
	if err != nil || !strings.HasPrefix(text, first+"\n  "+after[0].Keys[0].ID+"  signs from 2") || !strings.Contains(text, "  signs since 2") {
		t.Errorf("%v and\n%s", err, text)
	}

	stolen := listedKeys(t, m, "rotate", "--immediately")
	if len(stolen) != 2 || len(stolen[0].Keys) != 1 || len(stolen[1].Keys) != 1 || stolen[0].Keys[0].ID == after[0].Keys[0].ID {
		t.Errorf("after an immediate rotation: %+v", stolen)
	}
	m.status("a token of a stolen key", first+"/mcp", raw, http.StatusUnauthorized)
	m.status("a token of the new key", first+"/mcp", m.robotToken(first, ""), http.StatusOK)
	m.status("a token of the other issuer", second+"/mcp", m.robotToken(second, ""), http.StatusOK)

	if _, err := runCommand(t, "key", "list", "--issuer", "https://nobody.example", "--address", m.admin); err == nil || !strings.Contains(err.Error(), "has no issuer") {
		t.Errorf("an unknown issuer: %v", err)
	}
	r := m.request("http://"+m.admin+adminRotatePath, "", nil)
	if got := m.do(r); got.status != http.StatusMethodNotAllowed {
		t.Errorf("GET rotates: %d", got.status)
	}
}

func TestProbes(t *testing.T) {
	m := newMachine(t).withAdmin()
	m.mustLoad("", "http://localhost:%[1]d {\nmcp_auth {\nstore memory\n}\n}")
	for path, want := range map[string]string{adminLivePath: "live", adminReadyPath: "ready"} {
		got := m.get("http://"+m.admin+path, "")
		if got.status != http.StatusOK || got.body != `{"status":"`+want+`"}`+"\n" {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	app, err := runningApp()
	if err != nil {
		t.Fatal(err)
	}
	for _, is := range app.issuers() {
		if err := is.Store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.get("http://"+m.admin+adminReadyPath, ""); got.status != http.StatusServiceUnavailable || strings.Contains(got.body, "closed") {
		t.Errorf("with a store that does not work: %d %s", got.status, got.body)
	}
	if got := m.get("http://"+m.admin+adminLivePath, ""); got.status != http.StatusOK {
		t.Errorf("not live although it serves: %d", got.status)
	}
}

func TestKeysInAFileAreSealed(t *testing.T) {
	const first, second = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA="
	m := newMachine(t)
	file := filepath.Join(m.dir, "state.db")
	t.Setenv("MCP_TEST_FIRST", first)
	t.Setenv("MCP_TEST_SECOND", second)
	site := func(line string) string {
		return "http://localhost:%[1]d {\nmcp_auth {\nstore file " + file + " {\n" + line + "\n}\n" + robot + "}\nrespond ok\n}"
	}
	m.mustLoad("", site(""))
	raw := m.robotToken(m.url("localhost", 1), "")
	for _, step := range []struct{ what, line, refused string }{
		{"a key", "encryption_key {env.MCP_TEST_FIRST}", ""},
		{"no key any more", "", "there is no encryption_key. Add the line"},
		{"another key", "encryption_key {env.MCP_TEST_SECOND}", "sealed with another encryption_key. Give that key behind the new one"},
		{"the new one and the old one", "encryption_key {env.MCP_TEST_SECOND} {env.MCP_TEST_FIRST}", ""},
		{"the new one", "encryption_key {env.MCP_TEST_SECOND}", ""},
		{"a password", "encryption_key hunter2hunter2", "Make one with: openssl rand -base64 32"},
		{"a variable that is not set", "encryption_key {env.MCP_TEST_UNSET}", "encryption_key"},
	} {
		err := m.load("", site(step.line))
		switch {
		case step.refused == "" && err != nil:
			t.Fatalf("%s: %v", step.what, err)
		case step.refused != "" && (err == nil || !strings.Contains(err.Error(), step.refused)):
			t.Errorf("%s: %v, want an error with %q", step.what, err, step.refused)
		case err != nil && strings.Contains(err.Error(), "hunter2"):
			t.Errorf("the error repeats the key: %v", err)
		}
		if step.refused == "" {
			m.status(step.what, m.url("localhost", 1)+"/mcp", raw, http.StatusOK)
		}
	}
	// bbolt keeps old pages in its file until it needs their room, so what was
	// stored before the first key has to be overwritten by its owner.
	fresh := filepath.Join(m.dir, "sealed.db")
	m.mustLoad("", strings.ReplaceAll(site("encryption_key {env.MCP_TEST_FIRST}"), file, fresh))
	m.robotToken(m.url("localhost", 1), "")
	data, err := os.ReadFile(fresh)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte("pkcs8")) || !bytes.Contains(data, []byte(`"sealed":1`)) {
		t.Error("the signing keys are not sealed in the file")
	}
	if logs := m.logs(); strings.Contains(logs, strings.TrimRight(first, "=")) || strings.Contains(logs, strings.TrimRight(second, "=")) {
		t.Error("an encryption key is in the log")
	}
}

func TestAStoreHasOneEncryptionKey(t *testing.T) {
	m := newMachine(t)
	site := func(port, key string) string {
		return "http://localhost:%[" + port + "]d {\nmcp_auth {\nstore file " + m.dir + "/state.db {\nencryption_key " + key + "\n}\n}\n}\n"
	}
	const first, second = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA="
	err := m.load("", site("1", first)+site("2", second))
	if err == nil || !strings.Contains(err.Error(), "Move the store into the global options") {
		t.Errorf("two keys for one store: %v", err)
	}
	m.mustLoad("", site("1", first)+site("2", first))
}

func TestRedisStoresThatCannotBeOpened(t *testing.T) {
	m := newMachine(t)
	t.Setenv("MCP_TEST_REDIS", "redis://user:s3cret-password@127.0.0.1:1")
	for what, tt := range map[string]struct{ url, block, want string }{
		"nobody there":           {"{env.MCP_TEST_REDIS}", "", "127.0.0.1:1"},
		"another scheme":         {"http://127.0.0.1", "", "redis://"},
		"an address of the past": {"{env.MCP_TEST_UNSET}", "", "url"},
		"a file that is missing": {"rediss://127.0.0.1", "tls_ca /nowhere/ca.pem", "tls_ca: open /nowhere/ca.pem"},
		"a bad prefix":           {"redis://127.0.0.1", "key_prefix {x}", "key"},
	} {
		t.Run(what, func(t *testing.T) {
			err := m.load("", "http://localhost:%[1]d {\nmcp_auth {\nstore redis "+tt.url+" {\n"+tt.block+"\n}\n}\n}")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the error has the password: %v", err)
			}
		})
	}
	if strings.Contains(m.logs(), "s3cret") {
		t.Error("the password is in the log")
	}
}
