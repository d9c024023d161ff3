package caddymodule

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/filestore"
)

// handle returns the open stores and how many configurations use them.
func handles(t *testing.T) map[any]int {
	t.Helper()
	out := map[any]int{}
	states.Range(func(_, value any) bool {
		out[value.(*state)] = 0
		return true
	})
	return out
}

// references is how often a configuration has taken the store in the file.
func references(path string) int {
	n, _ := states.References((&FileStore{Path: path}).Identity())
	return n
}

func TestAReloadKeepsWhatIsRunning(t *testing.T) {
	m := newMachine(t)
	file := filepath.Join(m.dir, "state.db")
	global := "mcp_auth {\nstore file " + file + "\nscope mcp \"Use it\"\n}"
	site := "http://localhost:%[1]d {\nmcp_auth {\nauth_type both\n" + robot + "}\nrespond \"upstream\"\n}\n"
	m.mustLoad(global, site)
	origin := m.url("localhost", 1)
	before := handles(t)
	token := m.robotToken(origin, "")
	app, err := runningApp()
	if err != nil {
		t.Fatal(err)
	}
	generated := app.handlers[0].site.generated
	if !strings.HasPrefix(generated, "mcp_") {
		t.Fatalf("the generated token is %q", generated)
	}
	check := func(rule string) {
		t.Helper()
		m.status(rule, origin+"/mcp", token, http.StatusOK)
		m.status(rule, origin+"/mcp", generated, http.StatusOK)
		m.robotToken(origin, "")
		after := handles(t)
		if len(after) != 1 {
			t.Errorf("%s: %d stores are open, want one", rule, len(after))
		}
		for handle := range before {
			if _, same := after[handle]; !same {
				t.Errorf("%s: the store has been opened anew", rule)
			}
		}
		if n := references(file); n != 1 {
			t.Errorf("%s: the store is taken %d times, want once", rule, n)
		}
	}
	check("at first")

	m.mustLoad(global, strings.Replace(site, "upstream", "other", 1))
	check("after a reload")

	for rule, broken := range map[string]struct{ global, sites, want string }{
		"a configuration that cannot be provisioned": {
			global, strings.Replace(site, "auth_type both", "auth_type both\nuser alice {env.MCP_TEST_UNSET}", 1), "the hash of the user alice",
		},
		"a site that cannot be built": {
			global, site + "http://localhost:%[2]d {\nmcp_auth {\nauth_type oauth2.1\n}\n}", "auth_type oauth2.1 needs somebody who can sign in",
		},
		"a store that cannot be opened": {
			global, site + "http://localhost:%[2]d {\nmcp_auth {\nstore file " + m.log + "/none\n}\n}", "opening the store",
		},
		"another app that cannot start": {
			global, site + "http://localhost:%[2]d {\nbind 192.0.2.1\nrespond ok\n}", "listening on 192.0.2.1",
		},
	} {
		for range 3 { // apps start in a random order
			err := m.load(broken.global, broken.sites)
			if err == nil || !strings.Contains(err.Error(), broken.want) {
				t.Fatalf("%s: got %v, want an error with %q", rule, err, broken.want)
			}
			check("after " + rule)
		}
	}
}

func TestTheStoreIsFreeAfterTheEnd(t *testing.T) {
	m := newMachine(t)
	file := filepath.Join(m.dir, "state.db")
	sites := "http://localhost:%[1]d {\nmcp_auth {\nstore file " + file + "\n" + robot + "}\nrespond ok\n}"
	for range 2 {
		m.mustLoad("", sites)
		m.robotToken(m.url("localhost", 1), "")
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
		if len(handles(t)) != 0 {
			t.Error("a store is open although nothing runs")
		}
		s, err := filestore.Open(file, filestore.WithLockTimeout(0))
		if err != nil {
			t.Fatalf("the file is not free: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestTheStoreOfASiteThatIsGoneIsClosed(t *testing.T) {
	m := newMachine(t)
	a, b := filepath.Join(m.dir, "a.db"), filepath.Join(m.dir, "b.db")
	first := "http://localhost:%[1]d {\nmcp_auth {\nstore file " + a + "\n}\n}\n"
	second := "http://localhost:%[2]d {\nmcp_auth {\nstore file " + b + "\n}\n}\n"
	for _, step := range []struct {
		sites        string
		wantA, wantB int
	}{{first + second, 1, 1}, {second, 0, 1}, {first, 1, 0}, {strings.ReplaceAll(first+second, b, a), 2, 0}, {"", 0, 0}} {
		m.mustLoad("", step.sites)
		if gotA, gotB := references(a), references(b); gotA != step.wantA || gotB != step.wantB {
			t.Errorf("the stores are taken %d and %d times, want %d and %d, by\n%s", gotA, gotB, step.wantA, step.wantB, step.sites)
		}
	}
}

// 'caddy validate' must work beside a running Caddy, which has the file locked,
// and must leave nothing behind.
func TestValidatingTouchesNothing(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "sub", "state.db")
	text := "{\nstorage file_system " + dir + "\n}\nlocalhost:8443 {\nmcp_auth localhost:3000 {\nstore file " + file + "\nuser alice " + cheapBcrypt + "\n}\n}"
	raw, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	var cfg *caddy.Config
	if err := caddy.StrictUnmarshalJSON(raw, &cfg); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(file)); !os.IsNotExist(err) {
		t.Errorf("validating made the folder of the store: %v", err)
	}
	if len(handles(t)) != 0 {
		t.Error("validating opened a store")
	}
}

// The web server may start before the app, so requests come first sometimes.
func TestARequestBeforeTheStartBuildsTheSites(t *testing.T) {
	b := provisioned(t, "http://localhost:8080 {\nmcp_auth {\nstore memory\n}\n}")
	h := b.app.handlers[0]
	w := serveDirect(t, h, "http://localhost:8080/mcp")
	if w.Code != http.StatusUnauthorized {
		t.Errorf("the first request is answered %d, want 401", w.Code)
	}
	if err := b.app.Start(); err != nil {
		t.Error(err)
	}
	if n, _ := states.References("memory"); n != 1 {
		t.Errorf("the store is taken %d times, want once", n)
	}
	for range 2 { // Caddy may clean up twice
		if err := b.app.Cleanup(); err != nil {
			t.Error(err)
		}
	}
	if len(handles(t)) != 0 {
		t.Error("the store is open after the end")
	}
}

func TestARequestAfterTheEndTakesNoStore(t *testing.T) {
	b := provisioned(t, "http://localhost:8080 {\nmcp_auth {\nstore memory\n}\n}")
	if err := b.app.Cleanup(); err != nil {
		t.Fatal(err)
	}
	if w := serveDirect(t, b.app.handlers[0], "http://localhost:8080/mcp"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("the request is answered %d, want 503", w.Code)
	}
	if len(handles(t)) != 0 {
		t.Error("the request opened a store that nobody closes")
	}
}

func TestCleanupWithoutProvision(t *testing.T) {
	if err := new(App).Cleanup(); err != nil {
		t.Error(err)
	}
}

// What a store has to say must be found in the log of the configuration that
// runs, not in that of the one that opened the store.
func TestTheLogOfAStoreFollowsReloads(t *testing.T) {
	m := newMachine(t)
	sites := "http://localhost:%[1]d {\nmcp_auth {\nstore memory\n}\n}\n"
	say := func(message string) {
		for st := range handles(t) {
			st.(*state).log.With(zap.String("store", "memory")).Warn(message, zap.Int("n", 1))
			st.(*state).log.Info(message + " in passing")
		}
	}
	m.mustLoad("", sites)
	say("at first")
	first := m.log
	m.log = filepath.Join(m.dir, "second.log")
	m.mustLoad("log mine {\noutput file "+m.dir+"/mine.log\nlevel WARN\ninclude mcp_auth\n}", sites)
	say("after a reload")
	second := m.log
	m.log = filepath.Join(m.dir, "third.log")
	if err := m.load("", sites+"http://localhost:%[2]d {\nbind 192.0.2.1\nrespond ok\n}"); err == nil {
		t.Fatal("a listener of nobody's address starts")
	}
	say("after a rejected reload")

	for file, want := range map[string]string{
		first: "at first, at first in passing",
		// A log that includes a name takes it from the default one.
		second:              "",
		m.log:               "",
		m.dir + "/mine.log": "after a reload, after a rejected reload",
	} {
		m.log = file
		var got []string
		for line := range strings.Lines(m.logs()) {
			var entry struct{ Logger, Msg, Store string }
			if err := json.Unmarshal([]byte(line), &entry); err != nil {
				t.Fatal(err)
			}
			if entry.Logger == "mcp_auth" && strings.HasPrefix(entry.Msg, "a") {
				got = append(got, entry.Msg)
				if inPassing := strings.HasSuffix(entry.Msg, "passing"); !inPassing && entry.Store != "memory" {
					t.Errorf("a field is lost: %s", line)
				}
			}
		}
		if got := strings.Join(got, ", "); got != want {
			t.Errorf("%s has %q, want %q", filepath.Base(file), got, want)
		}
	}
}
