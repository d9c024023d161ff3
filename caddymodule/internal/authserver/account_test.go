package authserver_test

import (
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// signedIn returns a browser in which a user has signed in, on the account page.
func (s *site) signedIn(name string) (*browser, *page) {
	s.t.Helper()
	b := s.browser()
	p := b.get("/account").signIn(name, password)
	if p.status != http.StatusOK || !p.has("/logout") {
		s.t.Fatalf("no account page but %d:\n%s", p.status, p.body)
	}
	return b, p
}

// apps returns the ids of the connected apps on an account page.
func (p *page) apps() []string {
	var out []string
	p.each("input", func(n *html.Node) {
		if attribute(n, "name") == "grant" {
			out = append(out, attribute(n, "value"))
		}
	})
	return out
}

func TestTheAccountPageListsWhatTheUserHasConnected(t *testing.T) {
	s := newSite(t)
	id := s.register()
	s.tokens(id)
	s.tokens(id)
	b, p := s.signedIn("alice")
	if got := p.apps(); len(got) != 2 || !strings.Contains(p.body, "Inspector") {
		t.Errorf("the page lists %d apps", len(got))
	}
	s.browser().consent(authorization(id)).submit("decision", "deny")
	s.browser().code(authorization(id))
	if got := b.get("/account").apps(); len(got) != 2 {
		t.Errorf("denied requests and unused codes are listed: %d apps", len(got))
	}
	if _, p := s.signedIn("bob"); len(p.apps()) != 0 {
		t.Errorf("another user sees %d of them", len(p.apps()))
	}
}

func TestRemovingAnAppEndsItsTokens(t *testing.T) {
	s := newSite(t)
	id := s.register()
	a := s.tokens(id)
	b, p := s.signedIn("alice")
	f := p.form("/account/revoke")
	if p = b.post("/account/revoke", f.values); len(p.apps()) != 0 || p.status != http.StatusOK {
		t.Errorf("status %d, %d apps are left", p.status, len(p.apps()))
	}
	if s.good(a.text("access_token")) {
		t.Error("the access token is still good")
	}
	s.token(renewal(id, a.text("refresh_token"))).refused(t, 400, "invalid_grant")
	if p = b.post("/account/revoke", f.values); p.status != http.StatusOK {
		t.Errorf("removing it once more: %d %q", p.status, p.problem())
	}
}

func TestNobodyRemovesWhatIsNotTheirs(t *testing.T) {
	s := newSite(t)
	id := s.register()
	a := s.tokens(id)
	_, alice := s.signedIn("alice")
	grant := alice.apps()[0]
	b, p := s.signedIn("bob")
	token := p.form("/logout").values.Get("token")
	for _, c := range []struct{ rule, grant string }{
		{"another user's app", grant},
		{"an app that there is none of", flip(grant)},
		{"another key of the store", strings.Repeat("../", 14)},
		{"nothing", ""},
	} {
		t.Run(c.rule, func(t *testing.T) {
			p := b.post("/account/revoke", with(p.form("/logout").values, "token", token, "grant", c.grant))
			if p.status != http.StatusOK || !p.has("/logout") {
				t.Errorf("got %d %q", p.status, p.problem())
			}
		})
	}
	if !s.good(a.text("access_token")) {
		t.Error("the token is gone")
	}
	s.issued(renewal(id, a.text("refresh_token")))
}

func TestFormsOfTheAccountPageBelongToTheirSession(t *testing.T) {
	s := newSite(t)
	s.tokens(s.register())
	alice, start := s.signedIn("alice")
	bob, _ := s.signedIn("bob")
	consent := alice.consent(authorization(s.register())).form("/authorize")
	for _, path := range []string{"/account/revoke", "/logout"} {
		good := start.form(path).values
		for _, c := range []struct {
			rule, code string
			page       *page
		}{
			{"another browser's form", "other_browser", bob.post(path, good)},
			{"the form of a consent page", "form_expired", alice.post(path, consent.values)},
			{"a token that was changed", "form_expired", alice.post(path, with(start.form(path).values, "token", flip(good.Get("token"))))},
		} {
			t.Run(c.rule+" for "+path, func(t *testing.T) {
				if c.page.problem() != c.code || c.page.status != http.StatusBadRequest {
					t.Errorf("got %d %q, want 400 %q", c.page.status, c.page.problem(), c.code)
				}
			})
		}
	}
	alice.post("/login/switch", alice.consent(authorization(s.register())).form("/login/switch").values)
	alice.get("/account").signIn("bob", password)
	for _, path := range []string{"/account/revoke", "/logout"} {
		if p := alice.post(path, start.form(path).values); p.problem() != "form_expired" || p.status != http.StatusBadRequest {
			t.Errorf("the form of an earlier session for %s: %d %q", path, p.status, p.problem())
		}
	}
	if s.revocations() != 0 {
		t.Error("something was removed")
	}
}

func TestSigningOutEndsTheSessionOnTheServer(t *testing.T) {
	for _, everywhere := range []string{"-", "1"} {
		s := newSite(t)
		here, p := s.signedIn("alice")
		there, _ := s.signedIn("alice")
		bob, _ := s.signedIn("bob")
		stolen := s.browser()
		stolen.jar.SetCookies(origin, []*http.Cookie{{Name: "__Host-mcp_session", Value: here.cookie("__Host-mcp_session"), Path: "/", Secure: true}})
		out := here.post("/logout", with(p.form("/logout").values, "everywhere", everywhere))
		if out.status != http.StatusOK || here.cookie("__Host-mcp_session") != "" {
			t.Errorf("signing out: %d, the cookie is still there", out.status)
		}
		if !stolen.get("/account").has("/login") {
			t.Error("a copy of the cookie still works")
		}
		if signedOut := there.get("/account").has("/login"); signedOut != (everywhere == "1") {
			t.Errorf("with everywhere=%s the other browser is signed out: %v", everywhere, signedOut)
		}
		if bob.get("/account").has("/login") {
			t.Error("another user is signed out")
		}
		if again := here.post("/logout", p.form("/logout").values); again.status != http.StatusOK {
			t.Errorf("signing out twice: %d %q", again.status, again.problem())
		}
	}
}

// A new sign-in leaves no session behind that nobody could sign out any more.
func TestSigningInAgainEndsTheSessionOfBefore(t *testing.T) {
	s := newSite(t)
	b, _ := s.signedIn("alice")
	first := b.cookie("__Host-mcp_session")
	for _, name := range []string{"alice", "bob"} {
		p := b.get("/authorize?" + authorization(s.register(), "prompt", "login").Encode())
		if p = p.signIn(name, password); !p.has("/authorize") {
			t.Fatalf("signing in as %s: %d", name, p.status)
		}
		r := request(http.MethodGet, "/account", nil)
		r.AddCookie(&http.Cookie{Name: "__Host-mcp_session", Value: first})
		if p := s.browser().send(r); !p.has("/login") {
			t.Errorf("after a sign-in as %s the session of before goes on", name)
		}
		if !b.signedIn() {
			t.Errorf("%s is not signed in", name)
		}
		first = b.cookie("__Host-mcp_session")
	}
}

// Whatever fails on the way, asking once more signs out everywhere.
func TestSigningOutEverywhereCanBeRepeatedUntilItIsDone(t *testing.T) {
	run := func(n int, when storetest.Moment) []storetest.Call {
		s := newSite(t)
		var others []*browser
		here, p := s.signedIn("alice")
		for range 3 {
			b, _ := s.signedIn("alice")
			others = append(others, b)
		}
		values := with(p.form("/logout").values, "everywhere", "1")
		before := len(s.store.Calls())
		s.store.FailCall(n, when)
		if p := here.post("/logout", values); (p.status == http.StatusServiceUnavailable) != (n > 0) {
			t.Errorf("call %d fails %s: %d", n, when, p.status)
		}
		calls := s.store.Calls()[before:]
		if p := here.post("/logout", values); p.status != http.StatusOK {
			t.Errorf("call %d fails %s: again: %d", n, when, p.status)
		}
		for _, b := range append(others, here) {
			if !b.get("/account").has("/login") {
				t.Errorf("call %d fails %s: somebody is still signed in", n, when)
			}
		}
		return calls
	}
	for n, when := range faults(t, run(0, storetest.Before)) {
		run(n, when)
	}
}

func TestALinkSignsNobodyOut(t *testing.T) {
	s := newSite(t)
	b, _ := s.signedIn("alice")
	if p := b.get("/logout?everywhere=1"); !p.has("/logout") {
		t.Errorf("got %d and no account page", p.status)
	}
}

func TestTheAccountPageTakesNoMoreOfTheQueryThanItNeeds(t *testing.T) {
	s := newSite(t)
	p := s.browser().get("/account?ui_locales=" + strings.Repeat("de%20", 5000))
	if p.signIn("alice", password); p.browser.cookie("__Host-mcp_session") == "" {
		t.Error("the form cannot be sent")
	}
}

func TestWithoutPeopleThereAreNoPages(t *testing.T) {
	s := newSite(t, func(c *authserver.Config) { c.SignIn, c.Password = false, nil })
	for _, path := range []string{"/login", "/login/switch", "/account", "/account/revoke", "/logout"} {
		if _, ok := s.Endpoint(path); ok {
			t.Errorf("%s is there", path)
		}
	}
	// Clients demand that metadata name this one, so it says why it leads nowhere.
	p := s.browser().get("/authorize?" + authorization("mcp_x").Encode())
	if p.status != http.StatusNotFound || p.header.Get("Location") != "" || len(p.header["Set-Cookie"]) > 0 || !strings.Contains(p.body, "service accounts only") {
		t.Errorf("the authorization endpoint answers %d: %s", p.status, p.body)
	}
}
