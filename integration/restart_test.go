package integration

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestStateSurvives restarts a gateway with the default store, as an operator does it and as a power cut does it.
// Nobody has to register, sign in or agree again, and what was ended stays ended.
func TestStateSurvives(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		crash bool
	}{{"restart", false}, {"crash", true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := startGateway(t, gatewayConfig{site: "mcp_auth " + startBackend(t) + " {\n" + userLine + "\n}"})
			before := newStateOf(t, g)
			g.restart(tt.crash)
			before.check(t)
		})
	}
}

// stateOf is something of everything that a gateway remembers.
type stateOf struct {
	g                *gateway
	grant            *grant
	previous         string // refresh token that the grant's has replaced
	ended            *grant // revoked
	signedOut        *visitor
	consent          *page // that is open in a browser
	code             url.Values
	waiting, unknown string // clients that hold an open consent page, and none
}

// newStateOf makes a gateway remember things.
func newStateOf(t *testing.T, g *gateway) *stateOf {
	t.Helper()
	s := &stateOf{g: g, grant: g.newGrant(t, nil), ended: g.newGrant(t, nil)}
	s.previous = s.grant.refresh
	s.grant.renew(t)
	s.ended.revoke(t)

	s.signedOut = g.newVisitor(t)
	s.signedOut.get(g.origin+"/account").signIn().submit("/logout", nil)
	if p := s.signedOut.get(g.origin + "/account"); p.form("password") == nil {
		t.Fatalf("signing out leads to the page %v", p)
	}

	metadata := map[string]any{"client_name": "Waiting", "redirect_uris": []string{redirectURI}}
	s.waiting, s.unknown = g.register(t, metadata), g.register(t, metadata)
	verifier := rand.Text() + rand.Text()
	s.consent = s.grant.visitor.get(g.origin + "/authorize?" + authorizeRequest(s.waiting, verifier).Encode())
	callback := s.grant.visitor.authorize(g.origin + "/authorize?" + authorizeRequest(s.waiting, verifier).Encode())
	s.code = url.Values{
		"grant_type": {"authorization_code"}, "code": {callback.Get("code")}, "client_id": {s.waiting},
		"redirect_uri": {redirectURI}, "code_verifier": {verifier},
	}
	return s
}

// check wants everything to be as it was.
func (s *stateOf) check(t *testing.T) {
	t.Helper()
	g := s.g
	wantTools(t, "the access token from before", g.call(t, g.client, "/mcp", s.grant.access))
	if p := s.grant.visitor.get(g.origin + "/account"); p.status != http.StatusOK || p.form("grant") == nil {
		t.Errorf("the browser is not signed in any more, or its apps are gone: %v", p)
	}
	if p := s.signedOut.get(g.origin + "/account"); p.form("password") == nil {
		t.Errorf("the browser that was signed out is signed in: %v", p)
	}
	if p := s.grant.visitor.get(g.origin + "/authorize?" + authorizeRequest(s.unknown, rand.Text()+rand.Text()).Encode()); p.form("allow") == nil {
		t.Errorf("a registered client is asked to register again: %v", p)
	}
	if callback := s.consent.submit("allow", nil).callback(); callback.Get("code") == "" {
		t.Errorf("the consent page from before leads to %v", callback)
	}

	wantStatus(t, "the revoked access token", g.call(t, g.client, "/mcp", s.ended.access), http.StatusUnauthorized)
	wantError(t, "the revoked refresh token", g.refresh(t, s.ended.clientID, s.ended.refresh), "invalid_grant")

	wantStatus(t, "the code from before", g.postForm(t, "/token", s.code), http.StatusOK)
	wantError(t, "the code a second time", g.postForm(t, "/token", s.code), "invalid_grant")

	again := g.refresh(t, s.grant.clientID, s.previous)
	wantStatus(t, "the previous refresh token in its grace time", again, http.StatusOK)
	if again.field(t, "refresh_token") != s.grant.refresh {
		t.Error("the previous refresh token gets another successor than before")
	}
	s.grant.renew(t)
	wantTools(t, "the next access token", g.call(t, g.client, "/mcp", s.grant.access))
}

// refresh asks for new tokens.
func (g *gateway) refresh(t testing.TB, clientID, token string) *answer {
	t.Helper()
	return g.postForm(t, "/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {clientID}})
}

// wantError fails the test when an answer is not the refusal of RFC 6749 section 5.2 with that code.
func wantError(t testing.TB, what string, a *answer, code string) {
	t.Helper()
	status := http.StatusBadRequest
	if code == "invalid_client" {
		status = http.StatusUnauthorized
	}
	wantStatus(t, what, a, status)
	if got := a.field(t, "error"); got != code {
		t.Errorf("%s: the error is %s, want %s", what, got, code)
	}
}

// TestReload changes the configuration of a running gateway: streams go on, nothing is forgotten, and the change shows.
func TestReload(t *testing.T) {
	t.Parallel()
	for _, store := range []string{"file", "memory"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			rec := startRecorder(t)
			site := func(backend, more string) gatewayConfig {
				return gatewayConfig{site: "mcp_auth " + backend + " {\n" + userLine + "\nstore " + store + "\n" + more + "\n}"}
			}
			g := startGateway(t, site(rec.address, ""))
			reader := g.newGrant(t, url.Values{"resource": {g.origin + "/sse"}})
			stream := openStream(t, g.client, g.origin+"/sse", reader.access)
			stream.want(endpointEvent)
			before := newStateOf(t, g)

			if err := g.reload(site(startBackend(t), "name \"After the change\"")); err != nil {
				t.Fatal(err)
			}
			rec.proceed <- struct{}{}
			stream.want("event: message\ndata: {\"n\":2}\n")
			before.check(t)
			if p := g.newVisitor(t).get(g.origin + "/account"); !strings.Contains(p.title, "After the change") {
				t.Errorf("the page does not show the change: %v", p)
			}
		})
	}
}

// TestRejectedReload gives a running gateway configurations that cannot work. Each is refused with the line to write,
// and the gateway goes on as if nothing had been.
func TestRejectedReload(t *testing.T) {
	t.Parallel()
	rec := startRecorder(t)
	backend := startBackend(t)
	good := gatewayConfig{site: "mcp_auth " + backend + " {\n" + userLine + "\nresource /mcp\nresource /sse\nstore memory\n}"}
	g := startGateway(t, good)
	before := newStateOf(t, g)
	for _, tt := range []struct{ name, site, want string }{
		{"a line that nobody knows", "mcp_auth " + rec.address + " {\nusers alice\n}", "user"},
		{"nobody who can sign in", "mcp_auth " + rec.address + " {\nauth_type oauth2.1\n}", "Add a line with a hash of 'caddy hash-password'"},
		{"a secret that is not there", "mcp_auth " + rec.address + " {\nuser alice {file./nowhere/hash}\n}", "user alice"},
		{"a store that cannot be opened", "mcp_auth " + rec.address + " {\n" + userLine + "\nstore file /proc/nowhere/state.db\n}", "/proc/nowhere"},
		{"no authentication for everyone", "mcp_auth " + rec.address + " {\ndangerously_omit_auth\n}\nbind 0.0.0.0", "bind 127.0.0.1"},
		{"a fault of another module", "mcp_auth " + rec.address + " {\n" + userLine + "\nstore memory\n}\ntls /nowhere.pem /nowhere.key", "/nowhere.pem"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := g.reload(gatewayConfig{site: tt.site})
			if err == nil {
				t.Fatal("the configuration was accepted")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error does not say %q: %v", tt.want, err)
			}
			wantTools(t, "the access token", g.call(t, g.client, "/mcp", before.grant.access))
			if _, stderr, err := g.caddy("mcp-auth", "token", "show", "--address", g.admin); !strings.Contains(stderr, "no site uses a generated token") {
				t.Errorf("the admin endpoint does not know the running configuration: %v: %s", err, stderr)
			}
		})
	}
	before.check(t)
	if err := g.reload(good); err != nil {
		t.Errorf("the good configuration is refused afterwards: %v", err)
	}
	wantTools(t, "the access token in the end", g.call(t, g.client, "/mcp", before.grant.access))
}

// TestRestartOfMemoryStore forgets everything, which the store says. Clients learn it in the words that make them
// register again, and people get a page that tells them what to do.
func TestRestartOfMemoryStore(t *testing.T) {
	t.Parallel()
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + startBackend(t) + " {\n" + userLine + "\nstore memory\n}"})
	gr := g.newGrant(t, nil)
	g.restart(false)
	wantStatus(t, "the access token", g.call(t, g.client, "/mcp", gr.access), http.StatusUnauthorized)
	wantError(t, "the refresh token", g.refresh(t, gr.clientID, gr.refresh), "invalid_client")
	request := g.origin + "/authorize?" + authorizeRequest(gr.clientID, rand.Text()+rand.Text()).Encode()
	if p := gr.visitor.get(request); p.status != http.StatusBadRequest || p.next != "" || !strings.Contains(p.header.Get("Content-Type"), "text/html") {
		t.Errorf("the authorization request leads to %v and to %q", p, p.next)
	}
	a := send(t, g.client, "GET", request, "", "Accept", "application/json")
	wantStatus(t, "the authorization request of a program", a, http.StatusBadRequest)
}

// TestRemovedUser takes a user out of the configuration: there is no session and no new token any more.
func TestRemovedUser(t *testing.T) {
	t.Parallel()
	backend := startBackend(t)
	g := startGateway(t, gatewayConfig{site: "mcp_auth " + backend + " {\n" + userLine + "\n}"})
	gr := g.newGrant(t, nil)
	if err := g.reload(gatewayConfig{site: "mcp_auth " + backend + " {\nuser bob " + userHash + "\n}"}); err != nil {
		t.Fatal(err)
	}
	wantError(t, "the refresh token", g.refresh(t, gr.clientID, gr.refresh), "invalid_grant")
	if p := gr.visitor.get(g.origin + "/account"); p.form("password") == nil {
		t.Errorf("the browser is still signed in: %v", p)
	}
}
