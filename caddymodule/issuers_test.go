package caddymodule

import (
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

const alice = "user alice " + cheapBcrypt + " alice@example.com\n"

func TestSitesShareTheAppAndItsStore(t *testing.T) {
	m := newMachine(t)
	m.mustLoad("mcp_auth {\nstore memory\n"+robot+"}",
		"http://localhost:%[1]d {\nmcp_auth\nrespond one\n}\nhttp://localhost:%[2]d {\nmcp_auth\nrespond two\n}")
	app, err := runningApp()
	if err != nil {
		t.Fatal(err)
	}
	if len(app.handlers) != 2 || len(handles(t)) != 1 {
		t.Errorf("%d handlers and %d stores, want two and one", len(app.handlers), len(handles(t)))
	}
	for n, want := range []string{"one", "two"} {
		origin := m.url("localhost", n+1)
		if got := m.get(origin+"/mcp", m.robotToken(origin, "")); got.body != want {
			t.Errorf("%s answers %d %q, want %q", origin, got.status, got.body, want)
		}
	}
}

func TestIssuersThatShareAStoreKnowNothingOfEachOther(t *testing.T) {
	m := newMachine(t)
	m.mustLoad("mcp_auth {\nstore file "+filepath.Join(m.dir, "state.db")+"\n"+alice+robot+"}",
		"http://localhost:%[1]d {\nmcp_auth\nrespond one\n}\nhttp://localhost:%[2]d {\nmcp_auth\nrespond two\n}")
	one, two := m.url("localhost", 1), m.url("localhost", 2)

	token := m.robotToken(one, "")
	m.status("a token at its issuer", one+"/mcp", token, http.StatusOK)
	m.status("a token of another issuer", two+"/mcp", token, http.StatusUnauthorized)

	registration := `{"redirect_uris":["http://127.0.0.1:1/cb"],"client_name":"x"}`
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, one+"/register", strings.NewReader(registration))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	id, _ := m.do(r).json(t, "client_id").(string)
	query := "/authorize?" + url.Values{
		"response_type": {"code"}, "client_id": {id}, "redirect_uri": {"http://127.0.0.1:1/cb"},
		"code_challenge": {strings.Repeat("a", 43)}, "code_challenge_method": {"S256"},
	}.Encode()
	m.status("a client at its issuer", one+query, "", http.StatusSeeOther) // once more, with a cookie
	m.status("a client of another issuer", two+query, "", http.StatusBadRequest)

	browser := m.signIn(one)
	if !m.signedIn(browser, one) {
		t.Error("the session is not known where it began")
	}
	if m.signedIn(browser, two) {
		t.Error("the session of one issuer is good at another")
	}
}

// severalHosts is one issuer with two servers, and the sites of both.
const severalHosts = `http://auth.localhost:%[1]d {
	mcp_auth
}
http://github.localhost:%[1]d {
	mcp_auth
	respond github
}
http://cisco.localhost:%[1]d {
	mcp_auth {
		name Cisco
		resource /mcp
	}
	respond cisco
}
`

func TestOneIssuerForSeveralHosts(t *testing.T) {
	m := newMachine(t)
	m.mustLoad("mcp_auth {\nstore memory\nissuer http://auth.localhost:%[1]d\n"+alice+robot+"}", severalHosts)
	auth, github, cisco := m.url("auth.localhost", 1), m.url("github.localhost", 1), m.url("cisco.localhost", 1)

	for _, tt := range []struct{ rule, resource, github, cisco string }{
		{"a token for the first host", github + "/mcp", "200", "401"},
		{"a token for the second host", cisco + "/mcp", "401", "200"},
		{"a token for the second host by its origin", cisco, "401", "200"},
		{"no resource means what the configuration names", "", "401", "200"},
	} {
		token := m.robotToken(auth, tt.resource)
		for host, want := range map[string]string{github: tt.github, cisco: tt.cisco} {
			m.status(tt.rule, host+"/mcp", token, map[string]int{"200": http.StatusOK, "401": http.StatusUnauthorized}[want])
		}
		m.status(tt.rule, auth+"/mcp", token, http.StatusUnauthorized)
	}
}

// Tokens are checked with the keys in the store of the site that issues them.
func TestTheStoreOfTheIssuersSiteIsThatOfAll(t *testing.T) {
	m := newMachine(t)
	m.mustLoad("mcp_auth {\nstore file "+filepath.Join(m.dir, "state.db")+"\nissuer http://auth.localhost:%[1]d\n}",
		strings.Replace(severalHosts, "mcp_auth\n", "mcp_auth {\nstore memory\n"+robot+"}\n", 1))
	github := m.url("github.localhost", 1)
	m.status("a token of the issuer", github+"/mcp", m.robotToken(m.url("auth.localhost", 1), github+"/mcp"), http.StatusOK)
	if n := references(filepath.Join(m.dir, "state.db")); n != 0 {
		t.Errorf("the store that no site needs is taken %d times", n)
	}
}

func TestAHostWithoutAnIssuerOfItsOwn(t *testing.T) {
	m := newMachine(t)
	m.mustLoad("mcp_auth {\nstore memory\nissuer http://auth.localhost:%[1]d\n"+alice+robot+"}", severalHosts)
	auth, github := m.url("auth.localhost", 1), m.url("github.localhost", 1)

	metadata := m.get(github+"/.well-known/oauth-protected-resource/mcp", "")
	if got := metadata.json(t, "resource"); got != github+"/mcp" {
		t.Errorf("resource is %v", got)
	}
	if got, _ := metadata.json(t, "authorization_servers").([]any); len(got) != 1 || got[0] != auth {
		t.Errorf("authorization_servers is %v", got)
	}
	challenge := m.get(github+"/mcp", "").header.Get("WWW-Authenticate")
	if want := `resource_metadata="` + github + `/.well-known/oauth-protected-resource/mcp"`; !strings.Contains(challenge, want) {
		t.Errorf("the challenge %q has no %s", challenge, want)
	}
	m.status("health has no need of a token", github+"/health", "", http.StatusOK)
	landing := m.get(github+"/", "")
	if landing.status != http.StatusOK || !strings.Contains(landing.body, github+"/mcp") || strings.Contains(landing.body, "/account") {
		t.Errorf("the landing page answers %d: %s", landing.status, landing.body)
	}
	token := m.robotToken(auth, github+"/mcp")
	for _, path := range []string{"/token", "/register", "/revoke", "/jwks", "/authorize", "/login", "/account", "/logout"} {
		m.status("there is no endpoint", github+path, "", http.StatusUnauthorized)
		if got := m.get(github+path, token); got.body != "github" {
			t.Errorf("%s is not left to the upstream: %d %s", path, got.status, got.body)
		}
	}
	for _, path := range []string{"", "/mcp"} {
		m.status("there is no metadata of an issuer", github+"/.well-known/oauth-authorization-server"+path, "", http.StatusNotFound)
		m.status("nor with a token", github+"/.well-known/oauth-authorization-server"+path, token, http.StatusNotFound)
	}
}

func TestTheGuardInFrontOfStrippedPaths(t *testing.T) {
	m := newMachine(t)
	m.mustLoad("", `http://localhost:%[1]d {
	mcp_auth {
		store memory
		resource /github/mcp
		resource /cisco/mcp
		`+robot+`
	}
	handle_path /github/* {
		respond "github sees {path}"
	}
	handle_path /cisco/* {
		respond "cisco sees {path}"
	}
}`)
	origin := m.url("localhost", 1)
	token := m.robotToken(origin, origin+"/cisco/mcp")
	if got := m.get(origin+"/cisco/mcp", token); got.status != http.StatusOK || got.body != "cisco sees /mcp" {
		t.Errorf("got %d %q", got.status, got.body)
	}
	m.status("a token of the other resource", origin+"/github/mcp", token, http.StatusUnauthorized)
	m.status("no token", origin+"/cisco/mcp", "", http.StatusUnauthorized)
	m.status("no resource", origin+"/cisco/other", token, http.StatusNotFound)
	if got := m.get(origin+"/.well-known/oauth-protected-resource/github/mcp", "").json(t, "resource"); got != origin+"/github/mcp" {
		t.Errorf("resource is %v", got)
	}
}

// A directive below handle_path sees the stripped path, and answers and checks
// by the one that clients see.
func TestTheGuardBelowAStrippedPath(t *testing.T) {
	m := newMachine(t)
	m.mustLoad("mcp_auth {\nstore memory\n"+robot+"}", `http://localhost:%[1]d {
	handle_path /github/* {
		mcp_auth {
			resource /github/mcp
		}
		respond "sees {path}"
	}
	handle {
		mcp_auth {
			resource /mcp
		}
		respond "other"
	}
}`)
	origin := m.url("localhost", 1)
	token := m.robotToken(origin, origin+"/github/mcp")
	if got := m.get(origin+"/github/mcp", token); got.body != "sees /mcp" {
		t.Errorf("got %d %q", got.status, got.body)
	}
	m.status("a path that only looks like an endpoint after stripping", origin+"/github/token", "", http.StatusNotFound)
	m.status("the stripped path is none of a resource", origin+"/mcp", token, http.StatusUnauthorized)
	if got := m.get(origin+"/mcp", m.robotToken(origin, origin+"/mcp")); got.body != "other" {
		t.Errorf("got %d %q", got.status, got.body)
	}
}

// Both directives answer for the one authorization server of their origin.
func TestDirectivesOfOneOriginShareTheAuthorizationServer(t *testing.T) {
	m := newMachine(t)
	m.mustLoad("mcp_auth {\nstore memory\n"+robot+"}",
		"http://localhost:%[1]d {\n@a header X-Way a\nhandle @a {\nmcp_auth\nrespond a\n}\nhandle {\nmcp_auth\nrespond b\n}\n}")
	app, err := runningApp()
	if err != nil {
		t.Fatal(err)
	}
	if app.handlers[0].site.auth != app.handlers[1].site.auth {
		t.Error("there are two servers, so there are twice as many tries to sign in")
	}
	origin := m.url("localhost", 1)
	r := m.request(origin+"/token", "", url.Values{"grant_type": {"client_credentials"}})
	r.SetBasicAuth("robot", "robot-secret-1234")
	r.Header.Set("X-Way", "a")
	token, _ := m.do(r).json(t, "access_token").(string)
	m.status("a token of the first directive at the second", origin+"/mcp", token, http.StatusOK)
	r = m.request(origin+"/mcp", m.robotToken(origin, ""), nil)
	r.Header.Set("X-Way", "a")
	if got := m.do(r); got.body != "a" {
		t.Errorf("a token of the second directive at the first: %d %s", got.status, got.body)
	}
}
