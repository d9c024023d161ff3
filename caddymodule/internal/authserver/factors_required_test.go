package authserver_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

func withRequired(cfg *authserver.Config) { cfg.RequireFactor = true }

// enrolAfterPassword gives the right password on a sign-in page and sets up what
// is asked for.
func (p *page) enrolAfterPassword(name string) (*app, *page) {
	p.browser.site.t.Helper()
	p = p.signIn(name, password)
	a := p.scan()
	p = p.send("/login/factor", "code", a.code(-1))
	if a.recovery = p.codes(); len(a.recovery) != 10 {
		a.t.Fatalf("no recovery codes (%d):\n%s", p.status, p.body)
	}
	return a, p
}

func TestARequiredSecondFactorIsSetUpAfterThePassword(t *testing.T) {
	s := newSite(t, withRequired)
	b := s.browser()
	p := b.loginPage().signIn("alice", password)
	if !p.has("/login/factor") || b.cookie("__Host-mcp_session") != "" || !strings.Contains(p.body, "asks everybody for a second factor") {
		t.Fatalf("after the password: %d\n%s", p.status, p.body)
	}
	a := p.scan()
	if p = p.send("/login/factor", "code", "000"); p.status != http.StatusForbidden || p.scan().secret != a.secret || b.cookie("__Host-mcp_session") != "" {
		t.Errorf("after a wrong code: %d", p.status)
	}
	s.told("a wrong code", "client.register success client", "login refused alice")
	p = p.send("/login/factor", "code", a.code(-1))
	s.told("the right one", "factor.change success user alice", "login success alice")
	if len(p.codes()) != 10 || b.cookie("__Host-mcp_session") == "" {
		t.Fatalf("after the code: %d\n%s", p.status, p.body)
	}
	if p = b.get(p.link("I have saved them")); !p.has("/authorize") {
		t.Errorf("the request does not go on: %d", p.status)
	}
	again := s.browser()
	if p = again.loginPage().signIn("alice", password).send("/login/code", "code", a.code(0)); !p.has("/authorize") {
		t.Errorf("the next sign-in: %d", p.status)
	}
	_, p = s.browser().get("/account").enrolAfterPassword("bob")
	if p.link("I have saved them") != "/account" {
		t.Errorf("on the way to the account page it goes on at %s", p.link("I have saved them"))
	}
}

func TestARequiredSecondFactorCannotBeSkipped(t *testing.T) {
	s := newSite(t, withRequired)
	b := s.browser()
	first := b.loginPage()
	between := first.signIn("alice", password)
	sealed := between.form("/login/factor").values.Get("token")
	a := between.scan()
	for name, p := range map[string]*page{
		"going on with the request":    b.get("/authorize?" + url.Values{"continue": {first.form("/login").values.Get("token")}}.Encode()),
		"going on with what is sealed": b.get("/authorize?" + url.Values{"continue": {sealed}}.Encode()),
		"as the second step":           b.post("/login/code", url.Values{"token": {sealed}, "code": {a.code(0)}}),
		"as a change of the account":   b.post("/account/factor", url.Values{"token": {sealed}, "decision": {"enrol"}, "code": {a.code(0)}}),
		"as consent":                   b.post("/authorize", url.Values{"token": {sealed}, "decision": {"allow"}}),
		"without a code":               b.post("/login/factor", url.Values{"token": {sealed}}),
		"with the form before":         b.post("/login/factor", with(first.form("/login").values, "code", a.code(0))),
		"by its address":               b.get("/login/factor"),
	} {
		if b.cookie("__Host-mcp_session") != "" || p.has("/logout") {
			t.Errorf("%s: %d\n%s", name, p.status, p.body)
		}
	}
	other := s.browser()
	other.loginPage()
	if p := other.post("/login/factor", url.Values{"token": {sealed}, "code": {a.code(0)}}); p.problem() != "other_browser" || other.signedIn() {
		t.Errorf("in another browser: %d %q", p.status, p.problem())
	}
	theirs, _ := s.browser().loginPage().enrolAfterPassword("alice")
	if p := between.send("/login/factor", "code", a.code(0)); !p.has("/login/code") || b.cookie("__Host-mcp_session") != "" {
		t.Errorf("after the user has set one up elsewhere: %d", p.status)
	} else if p = p.send("/login/code", "code", theirs.code(0)); !p.has("/authorize") {
		t.Errorf("with the code of that one: %d", p.status)
	}
}

func TestWhoIsNotAllowedSetsNoSecondFactorUp(t *testing.T) {
	s := newSite(t, withRequired, func(cfg *authserver.Config) { cfg.Allow = &policy.Allow{Users: []string{"bob"}} })
	b := s.browser()
	if p := b.loginPage().signIn("alice", password); p.problem() != "access_denied" || p.has("/login/factor") || b.cookie("__Host-mcp_session") != "" {
		t.Errorf("got %d %q", p.status, p.problem())
	}
	if p := s.browser().loginPage().signIn("bob", password); !p.has("/login/factor") {
		t.Errorf("bob: %d %q", p.status, p.problem())
	}
}

func TestWhatHappensBeforeARequiredSecondFactorIsSetUp(t *testing.T) {
	for name, happens := range map[string]func(*site){
		"the password changes": func(s *site) {
			s.users.change(func(known map[string]login.Identity) {
				known["alice"] = login.Identity{Subject: "alice", Provider: "local", Stamp: "2"}
			})
		},
		"the user is removed": func(s *site) {
			s.users.change(func(known map[string]login.Identity) { delete(known, "alice") })
		},
		"ten minutes pass": func(*site) { time.Sleep(10*time.Minute + time.Second) },
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, withRequired)
			p := s.browser().loginPage().signIn("alice", password)
			a := p.scan()
			happens(s)
			if p = p.send("/login/factor", "code", a.code(0)); p.status != http.StatusBadRequest || p.browser.cookie("__Host-mcp_session") != "" {
				t.Errorf("%s: %d %q", name, p.status, p.problem())
			}
		})
	}
}

func TestARequiredSecondFactorThatIsTurnedOffHasToBeSetUpAgain(t *testing.T) {
	s := newSite(t, withRequired)
	b := s.browser()
	a, _ := b.get("/account").enrolAfterPassword("alice")
	p := b.get("/account/factor").send("/account/factor", "decision", "remove", "code", a.code(0))
	if !strings.Contains(p.body, "Set another one up now") || strings.Contains(p.body, "your password is enough") {
		t.Errorf("got %d\n%s", p.status, p.body)
	}
	if p := s.browser().get("/account").signIn("alice", password); !p.has("/login/factor") {
		t.Errorf("the next sign-in: %d", p.status)
	}
}

func TestAPasskeyDoesWhereASecondFactorIsRequired(t *testing.T) {
	s, a, _ := withPasskey(t)
	s.reopen(withRequired)
	if p := s.browser().loginPage().usePasskey(a); !p.has("/authorize") {
		t.Errorf("got %d", p.status)
	}
}

// Who has a passkey does not lose it to somebody who knows the password, and could
// set a second factor of their own up with it.
func TestNobodySetsASecondFactorUpBesideAPasskeyByThePassword(t *testing.T) {
	s, a, _ := withPasskey(t)
	s.reopen(withRequired)
	b := s.browser()
	sign := b.loginPage()
	p := sign.signIn("alice", password)
	if !p.has("/login/passkey") || p.has("/login/factor") || !strings.Contains(p.body, "Your password alone is not enough") {
		t.Fatalf("after the password: %d\n%s", p.status, p.body)
	}
	if q := b.get(b.get(p.link("Back to sign-in")).link("Use a passkey")); strings.Contains(q.body, "Your password alone") {
		t.Error("the page speaks of a password that was not given")
	}
	if q := p.send("/login/passkey", "answer", "{}"); q.status != http.StatusForbidden || !strings.Contains(q.body, "Your password alone") || b.signedIn() {
		t.Errorf("with a wrong answer: %d", q.status)
	}
	if p = p.send("/login/passkey", "answer", p.answer(a)); !p.has("/authorize") {
		t.Errorf("with the passkey: %d", p.status)
	}
	if p := s.browser().loginPage().signIn("bob", password); !p.has("/login/factor") {
		t.Errorf("a user without a passkey: %d", p.status)
	}
}

// The user has a session of before, and adds a passkey in it, while somebody with the
// password is about to set a second factor up.
func TestAPasskeyThatComesFirstKeepsASecondFactorFromBeingSetUp(t *testing.T) {
	s := newSite(t)
	alice, _ := s.signedIn("alice")
	s.reopen(withRequired)
	p := s.browser().loginPage().signIn("alice", password)
	theirs := p.scan()
	if q := alice.addPasskey(newAuthenticator(), "Laptop"); q.status != http.StatusOK {
		t.Fatalf("adding a passkey: %d", q.status)
	}
	if p = p.send("/login/factor", "code", theirs.code(0)); !p.has("/login/passkey") || len(p.codes()) > 0 || p.browser.signedIn() {
		t.Errorf("got %d\n%s", p.status, p.body)
	}
}

// The address of the page stays in the history of the browser.
func TestTheKeyOfARequiredSecondFactorIsShownUntilItIsSetUp(t *testing.T) {
	s := newSite(t, withRequired)
	b := s.browser()
	p := b.get("/account")
	address := b.postOnce("/login", with(p.form("/login").values, "username", "alice", "password", password)).header.Get("Location")
	p = b.get(address)
	a := p.scan()
	if q := b.get(address); q.scan().secret != a.secret {
		t.Error("the page cannot be loaded again")
	}
	p.send("/login/factor", "code", a.code(-1))
	b.get("/account").send("/logout")
	if q := b.get(address); strings.Contains(q.body, a.secret) || !q.has("/login/code") {
		t.Errorf("after that: %d\n%s", q.status, q.body)
	}
}

func TestAStoreFaultWithARequiredSecondFactorIsA503(t *testing.T) {
	run := func(n int, when storetest.Moment) []storetest.Call {
		s := newSite(t, withRequired)
		f := &flow{site: s, browser: s.browser()}
		a, tries := &app{t: t}, -1
		before := len(s.store.Calls())
		s.store.FailCall(n, when)
		for _, step := range []step{
			{"open the account page", func(f *flow) *http.Response { return f.opened("/account") }},
			{"sign in", func(f *flow) *http.Response {
				return f.submitted("/login", "username", "alice", "password", password)
			}},
			{"see the key", func(f *flow) *http.Response {
				resp := f.opened(f.page.header.Get("Location"))
				if resp.StatusCode == http.StatusOK {
					a.secret = f.page.scan().secret
				}
				return resp
			}},
			{"set it up", func(f *flow) *http.Response {
				tries++
				return f.submitted("/login/factor", "code", a.code(tries-1))
			}},
			{"see the account", func(f *flow) *http.Response { return f.opened("/account") }},
		} {
			if !f.survives(step, n, when) {
				break
			}
		}
		if n == 0 && !f.page.has("/logout") {
			t.Error("alice is not signed in")
		}
		return s.store.Calls()[before:]
	}
	for n, when := range faults(t, run(0, storetest.Before)) {
		run(n, when)
	}
}
