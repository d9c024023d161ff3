package authserver_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"golang.org/x/net/html"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/limit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// app is an authenticator app with the recovery codes that came with it.
type app struct {
	t        *testing.T
	secret   string
	recovery []string
}

// code is the code that the app shows, some steps from now.
func (a *app) code(steps int) string {
	a.t.Helper()
	counter := uint64(time.Now().Unix()/30 + int64(steps))
	code, err := hotp.GenerateCodeCustom(a.secret, counter, hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
	if err != nil {
		a.t.Fatal(err)
	}
	return code
}

// scan takes the key from the page that sets an app up.
func (p *page) scan() *app {
	p.browser.site.t.Helper()
	a := &app{t: p.browser.site.t}
	p.each("a", func(n *html.Node) {
		if u, err := url.Parse(attribute(n, "href")); err == nil && u.Scheme == "otpauth" {
			a.secret = u.Query().Get("secret")
		}
	})
	if a.secret == "" {
		a.t.Fatalf("there is no key on the page (%d):\n%s", p.status, p.body)
	}
	return a
}

// codes are the recovery codes on a page.
func (p *page) codes() []string {
	var out []string
	p.each("li", func(n *html.Node) {
		if c := n.FirstChild; c != nil && c.Data == "code" && c.FirstChild != nil {
			out = append(out, c.FirstChild.Data)
		}
	})
	return out
}

// enrol sets an app up for the user of a browser, with the code of the step before
// this one.
func (b *browser) enrol() *app {
	b.site.t.Helper()
	p := b.get("/account/factor")
	a := p.scan()
	p = p.send("/account/factor", "decision", "enrol", "code", a.code(-1))
	if a.recovery = p.codes(); len(a.recovery) != 10 {
		b.site.t.Fatalf("no recovery codes (%d):\n%s", p.status, p.body)
	}
	return a
}

// send posts the form for a path with more fields in it.
func (p *page) send(path string, pairs ...string) *page {
	p.browser.site.t.Helper()
	return p.browser.post(path, with(p.form(path).values, pairs...))
}

// signedIn reports whether the browser has a session.
func (b *browser) signedIn() bool { return !b.get("/account").has("/login") }

func TestTheSecondFactorFollowsThePassword(t *testing.T) {
	s := newSite(t)
	alice, _ := s.signedIn("alice")
	a := alice.enrol()
	b := s.browser()
	p := b.loginPage().signIn("alice", password)
	if !p.has("/login/code") || p.status != http.StatusOK || b.cookie("__Host-mcp_session") != "" {
		t.Fatalf("after the password: %d with session %q", p.status, b.cookie("__Host-mcp_session"))
	}
	if p = p.send("/login/code", "code", a.code(0)); !p.has("/authorize") || !strings.Contains(p.body, "alice@example.com") {
		t.Fatalf("after the code: %d\n%s", p.status, p.body)
	}
	if code := p.submit("decision", "allow").handedOff().Get("code"); code == "" {
		t.Error("the way ends there")
	}
	other := s.browser()
	p = other.get("/account").signIn("alice", password).send("/login/code", "recovery", strings.ToUpper(a.recovery[0]))
	if !p.has("/logout") || !strings.Contains(p.body, "9 recovery codes left") {
		t.Errorf("with a recovery code: %d\n%s", p.status, p.body)
	}
	if p := s.browser().loginPage().signIn("bob", password); !p.has("/authorize") {
		t.Errorf("a user without a second factor: %d", p.status)
	}
}

func TestCodesOfTheSecondFactorThatAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name  string
		field string
		value func(alice, bob *app) string
	}{
		{"a used one", "code", func(a, _ *app) string { return a.code(-1) }},
		{"an old one", "code", func(a, _ *app) string { return a.code(-2) }},
		{"another user's", "code", func(_, b *app) string { return b.code(0) }},
		{"none", "code", func(_, _ *app) string { return "" }},
		{"another user's recovery code", "recovery", func(_, b *app) string { return b.recovery[0] }},
		{"a recovery code in the place of a code", "code", func(a, _ *app) string { return a.recovery[0] }},
		{"a code in the place of a recovery code", "recovery", func(a, _ *app) string { return a.code(0) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			alice, _ := s.signedIn("alice")
			bob, _ := s.signedIn("bob")
			a, other := alice.enrol(), bob.enrol()
			b := s.browser()
			p := b.loginPage().signIn("alice", password).send("/login/code", tt.field, tt.value(a, other))
			if p.status != http.StatusForbidden || p.failure() == "" || b.signedIn() {
				t.Errorf("got %d, signed in: %t", p.status, b.signedIn())
			}
			if p = p.send("/login/code", "code", a.code(0)); !p.has("/authorize") {
				t.Errorf("the right one does not do any more: %d", p.status)
			}
		})
	}
}

// Whoever does not know the password sees the same, does the same work, and learns
// nothing.
func TestNothingTellsOfASecondFactorBeforeThePassword(t *testing.T) {
	s := newSite(t)
	alice, _ := s.signedIn("alice")
	alice.enrol()
	var failures []string
	var calls []int
	for _, user := range []string{"alice", "bob", "mallory"} {
		b := s.browser()
		b.peer = "192.0.2.50:1"
		p := b.get("/account")
		before := len(s.store.Calls())
		p = p.signIn(user, "wrong")
		failures, calls = append(failures, p.failure()), append(calls, len(s.store.Calls())-before)
		if p.has("/login/code") || p.status != http.StatusForbidden {
			t.Errorf("%s: %d", user, p.status)
		}
		s.counts = limit.NewCounts()
		s.reopen()
	}
	if failures[0] != failures[1] || failures[0] != failures[2] || calls[0] != calls[1] || calls[0] != calls[2] {
		t.Errorf("the pages say %q after %v calls to the store", failures, calls)
	}
}

func TestTheSecondFactorCannotBeSkipped(t *testing.T) {
	s := newSite(t)
	alice, _ := s.signedIn("alice")
	a := alice.enrol()
	b := s.browser()
	first := b.loginPage()
	between := first.signIn("alice", password)
	sealed := between.form("/login/code").values.Get("token")
	for name, p := range map[string]*page{
		"going on with the request":           b.get("/authorize?" + url.Values{"continue": {first.form("/login").values.Get("token")}}.Encode()),
		"going on with what is sealed":        b.get("/authorize?" + url.Values{"continue": {sealed}}.Encode()),
		"the page for passkeys":               b.get("/login/passkey?" + url.Values{"continue": {sealed}}.Encode()),
		"consent with the form before":        b.post("/authorize", with(first.form("/login").values, "decision", "allow")),
		"consent with what is sealed":         b.post("/authorize", url.Values{"token": {sealed}, "decision": {"allow"}}),
		"the form before at the second step":  b.post("/login/code", with(first.form("/login").values, "code", a.code(0))),
		"what is sealed as the first step":    b.post("/login", url.Values{"token": {sealed}, "username": {"alice"}, "password": {password}}),
		"what is sealed as a passkey":         b.post("/login/passkey", url.Values{"token": {sealed}, "answer": {"{}"}}),
		"what is sealed at the account":       b.post("/account/factor", url.Values{"token": {sealed}, "decision": {"remove"}, "code": {a.code(0)}}),
		"what is sealed as another account":   b.post("/login/switch", url.Values{"token": {sealed}}),
		"nothing sealed":                      b.post("/login/code", url.Values{"code": {a.code(0)}}),
		"the second step by its address only": b.get("/login/code"),
		"without a code":                      b.post("/login/code", url.Values{"token": {sealed}}),
	} {
		if b.cookie("__Host-mcp_session") != "" || p.has("/logout") || strings.Contains(p.body, "http-equiv=\"refresh\"") {
			t.Errorf("%s: %d\n%s", name, p.status, p.body)
		}
	}
	other := s.browser()
	other.loginPage()
	if p := other.post("/login/code", url.Values{"token": {sealed}, "code": {a.code(0)}}); p.problem() != "other_browser" || other.signedIn() {
		t.Errorf("in another browser: %d %q", p.status, p.problem())
	}
	r := request(http.MethodPost, "/login/code", url.Values{"token": {sealed}, "code": {a.code(0)}})
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if p := b.send(r); p.status != http.StatusForbidden || b.signedIn() {
		t.Errorf("from another site: %d", p.status)
	}
	if p := between.send("/login/code", "code", a.code(0)); !p.has("/authorize") {
		t.Errorf("the right way: %d", p.status)
	}
}

func TestWhatHappensBetweenPasswordAndCode(t *testing.T) {
	for _, tt := range []struct {
		name    string
		happens func(*site)
		status  int
		problem string
	}{
		{"the password changes", func(s *site) {
			s.users.change(func(known map[string]login.Identity) {
				id := known["alice"]
				id.Stamp = "2"
				known["alice"] = id
			})
		}, http.StatusBadRequest, "form_expired"},
		{"the user is removed", func(s *site) {
			s.users.change(func(known map[string]login.Identity) { delete(known, "alice") })
		}, http.StatusBadRequest, "form_expired"},
		{"the user is not allowed any more", func(s *site) {
			s.reopen(func(cfg *authserver.Config) { cfg.Allow = &policy.Allow{Users: []string{"bob"}} })
		}, http.StatusForbidden, "access_denied"},
		{"the operator resets the factor", func(s *site) {
			if before, ok, err := s.ResetFactors(s.t.Context(), "alice"); err != nil || !ok || !before.App {
				s.t.Errorf("reset: %+v, %t, %v", before, ok, err)
			}
		}, http.StatusBadRequest, "form_expired"},
		{"more than ten minutes pass", func(*site) { time.Sleep(10*time.Minute + time.Second) }, http.StatusBadRequest, "request_expired"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				alice, _ := s.signedIn("alice")
				a := alice.enrol()
				b := s.browser()
				p := b.loginPage().signIn("alice", password)
				tt.happens(s)
				p = p.send("/login/code", "code", a.code(0))
				if p.status != tt.status || p.problem() != tt.problem || b.cookie("__Host-mcp_session") != "" {
					t.Errorf("got %d %q", p.status, p.problem())
				}
			})
		})
	}
}

func TestGuessesOfCodesAreSlowedDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		alice, _ := s.signedIn("alice")
		a := alice.enrol()
		p := s.browser().loginPage().signIn("alice", password)
		for i := range 10 {
			p.browser.peer = manyPeers(i)
			if q := p.send("/login/code", "code", "nonsense"); q.status != http.StatusForbidden {
				t.Fatalf("try %d: %d", i+1, q.status)
			}
		}
		p.browser.peer = manyPeers(11)
		held := p.send("/login/code", "code", a.code(0))
		if held.status != http.StatusTooManyRequests || held.header.Get("Retry-After") == "" || p.browser.signedIn() {
			t.Errorf("the account is not held back: %d", held.status)
		}
		// Passwords are counted by themselves, and so is bob.
		if q := s.browser().loginPage().signIn("bob", password); !q.has("/authorize") {
			t.Errorf("another user is held back: %d", q.status)
		}
		time.Sleep(time.Minute)
		if q := held.send("/login/code", "code", a.code(0)); !q.has("/authorize") {
			t.Errorf("after the pause: %d", q.status)
		}
	})
}

// The limit ends nothing for good, so the record counts as well.
func TestAHundredWrongCodesSwitchCodesOff(t *testing.T) {
	s := newSite(t, func(cfg *authserver.Config) { cfg.LoginMax = 0 })
	alice, _ := s.signedIn("alice")
	a := alice.enrol()
	p := s.browser().loginPage().signIn("alice", password)
	for range 100 {
		p.send("/login/code", "code", "nonsense")
	}
	if q := p.send("/login/code", "code", a.code(0)); q.status != http.StatusForbidden || !strings.Contains(q.failure(), "Codes are switched off") {
		t.Errorf("a right code: %d %s", q.status, q.failure())
	}
	if q := p.send("/login/code", "recovery", a.recovery[0]); !q.has("/authorize") {
		t.Errorf("a recovery code: %d", q.status)
	}
}

func TestUsersOfProvidersHaveNoFactors(t *testing.T) {
	idp := newProvider()
	s := newSite(t, withProvider(idp))
	b := s.browser()
	p := b.get(back(b.get("/account").away()))
	if !p.has("/logout") || strings.Contains(p.body, "/account/factor") || strings.Contains(p.body, "/account/passkey") {
		t.Errorf("the account page: %d\n%s", p.status, p.body)
	}
	for _, path := range []string{"/account/factor", "/account/passkey"} {
		if p := b.get(path); p.status != http.StatusNotFound || p.problem() != "not_found" {
			t.Errorf("%s: %d %q", path, p.status, p.problem())
		}
	}
	without := newSite(t, withProvider(newProvider()), func(cfg *authserver.Config) { cfg.Password = nil })
	for _, path := range []string{"/login/code", "/login/passkey", "/account/factor", "/account/passkey", "/account/passkey/remove"} {
		if _, ok := without.Endpoint(path); ok {
			t.Errorf("without local users there is %s", path)
		}
	}
	if p := without.browser().get("/account"); strings.Contains(p.body, "/login/passkey") {
		t.Error("without local users a passkey is offered")
	}
	if _, ok, err := without.ResetFactors(t.Context(), "alice"); ok || err != nil {
		t.Errorf("without local users something is reset: %v", err)
	}
}

func TestSecretsOfFactorsAreNotLogged(t *testing.T) {
	s := newSite(t)
	b, _ := s.signedIn("alice")
	a := b.enrol()
	code, recovery := a.code(0), a.recovery[0]
	s.browser().loginPage().signIn("alice", password).send("/login/code", "code", code)
	s.browser().loginPage().signIn("alice", password).send("/login/code", "recovery", recovery)
	s.browser().loginPage().signIn("alice", password).send("/login/code", "code", code)
	for _, entry := range s.logs.All() {
		for _, value := range entry.ContextMap() {
			for _, secret := range []string{code, recovery, a.secret} {
				if text, ok := value.(string); strings.Contains(entry.Message, secret) || ok && strings.Contains(text, secret) {
					t.Errorf("the log has a secret: %s %v", entry.Message, entry.ContextMap())
				}
			}
		}
	}
}
