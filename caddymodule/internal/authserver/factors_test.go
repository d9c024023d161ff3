package authserver_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"golang.org/x/net/html"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
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
		s.tries = authserver.NewTries()
		s.reopen(nil)
	}
	if failures[0] != failures[1] || failures[0] != failures[2] || calls[0] != calls[1] || calls[0] != calls[2] {
		t.Errorf("the pages say %q after %v calls to the store", failures, calls)
	}
}

// reopen reloads the configuration with a change.
func (s *site) reopen(change func(*authserver.Config)) {
	s.t.Helper()
	cfg := defaultConfig()
	cfg.Password, cfg.Log = s.users, nopLog
	if change != nil {
		change(&cfg)
	}
	s.open(cfg)
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
		time.Sleep(7 * time.Second)
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

func TestSettingUpASecondFactor(t *testing.T) {
	s := newSite(t)
	b, p := s.signedIn("alice")
	other, _ := s.signedIn("alice")
	bob, _ := s.signedIn("bob")
	if !strings.Contains(p.body, "Off: your password is enough") {
		t.Error("the account page does not say that there is none")
	}
	p = b.get("/account/factor")
	a := p.scan()
	q := p.send("/account/factor", "decision", "enrol", "code", "000")
	if q.status != http.StatusForbidden || q.failure() == "" || q.scan().secret != a.secret {
		t.Errorf("after a wrong code: %d with the key %q", q.status, q.scan().secret)
	}
	if p := b.get("/account"); !strings.Contains(p.body, "Off: your password is enough") {
		t.Error("a wrong code sets it up")
	}
	q = q.send("/account/factor", "decision", "enrol", "code", a.code(-1))
	if codes := q.codes(); len(codes) != 10 || q.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("got %d with %d codes", q.status, len(codes))
	}
	if b.get("/account").has("/login") {
		t.Error("the session that set it up has ended")
	}
	if !other.get("/account").has("/login") {
		t.Error("a session from before goes on")
	}
	if bob.get("/account").has("/login") {
		t.Error("another user's session has ended")
	}
	if again := b.post("/account/factor", with(p.form("/account/factor").values, "decision", "enrol", "code", a.code(0))); len(again.codes()) != 10 {
		t.Errorf("the same form once more, whose answer may have got lost: %d", again.status)
	}
	late := b.get("/account/factor")
	if strings.Contains(late.body, "otpauth") || strings.Contains(late.body, a.secret) {
		t.Error("the key is shown again")
	}
}

func TestASecondKeyDoesNotReplaceTheFirst(t *testing.T) {
	s := newSite(t)
	b, _ := s.signedIn("alice")
	p := b.get("/account/factor")
	other := p.scan()
	first := b.enrol()
	if q := p.send("/account/factor", "decision", "enrol", "code", other.code(0)); len(q.codes()) != 0 || !q.has("/logout") {
		t.Errorf("got %d", q.status)
	}
	fresh := s.browser()
	if q := fresh.loginPage().signIn("alice", password).send("/login/code", "code", first.code(0)); !q.has("/authorize") {
		t.Errorf("the first key: %d", q.status)
	}
}

func TestNewWaysToSignInNeedASignInOfLate(t *testing.T) {
	for _, path := range []string{"/account/factor", "/account/passkey"} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t)
			b, _ := s.signedIn("alice")
			time.Sleep(5*time.Minute - time.Second)
			if b.get(path).has("/login") {
				t.Errorf("%s: a sign-in of less than five minutes ago does not do", path)
			}
			time.Sleep(2 * time.Second)
			p := b.get(path)
			if !p.has("/login") || strings.Contains(p.body, "otpauth") || !strings.Contains(p.body, "sign in once more") {
				t.Fatalf("%s: after five minutes: %d", path, p.status)
			}
			if p = p.signIn("alice", password); !p.has(path) {
				t.Errorf("%s: after signing in again: %d\n%s", path, p.status, p.body)
			}
		})
	}
}

func TestChangingTheSecondFactor(t *testing.T) {
	s := newSite(t)
	b, _ := s.signedIn("alice")
	a := b.enrol()
	p := b.get("/account/factor")
	for _, decision := range []string{"renew", "remove"} {
		for _, pairs := range [][]string{{"code", "123"}, {"code", a.code(-1)}, {"recovery", "aaaa-aaaa-aaaa-aaaa"}, nil} {
			if q := p.send("/account/factor", append(pairs, "decision", decision)...); q.status != http.StatusForbidden || len(q.codes()) > 0 {
				t.Errorf("%s with %v: %d", decision, pairs, q.status)
			}
		}
		s.tries = authserver.NewTries()
		s.reopen(nil)
	}
	for _, decision := range []string{"enrol", "", "allow"} {
		if q := p.send("/account/factor", "decision", decision, "code", a.code(0)); q.problem() != "invalid_request" {
			t.Errorf("%q: %d %q", decision, q.status, q.problem())
		}
	}
	q := p.send("/account/factor", "decision", "renew", "code", a.code(0))
	if fresh := q.codes(); len(fresh) != 10 || slices.Contains(fresh, a.recovery[0]) {
		t.Fatalf("new recovery codes: %d %v", q.status, fresh)
	}
	if r := p.send("/account/factor", "decision", "remove", "recovery", a.recovery[0]); r.status != http.StatusForbidden {
		t.Errorf("an old recovery code: %d", r.status)
	}
	if r := p.send("/account/factor", "decision", "remove", "recovery", q.codes()[0]); !r.has("/logout") || !strings.Contains(r.body, "The second factor is off") {
		t.Errorf("turning it off: %d\n%s", r.status, r.body)
	}
	if r := p.send("/account/factor", "decision", "remove", "recovery", q.codes()[1]); !r.has("/logout") || r.status != http.StatusOK {
		t.Errorf("turning it off twice: %d", r.status)
	}
	if r := s.browser().loginPage().signIn("alice", password); !r.has("/authorize") {
		t.Errorf("the password is not enough: %d", r.status)
	}
}

func TestFormsAboutFactorsBelongToTheirSession(t *testing.T) {
	s := newSite(t)
	alice, _ := s.signedIn("alice")
	bob, _ := s.signedIn("bob")
	page := alice.get("/account/factor")
	a, f := page.scan(), page.form("/account/factor").values
	if p := bob.post("/account/factor", with(f, "decision", "enrol", "code", a.code(-1))); p.problem() != "other_browser" {
		t.Errorf("in another browser: %d %q", p.status, p.problem())
	}
	if p := alice.post("/account/factor", with(alice.get("/account").form("/logout").values, "decision", "enrol", "code", a.code(-1))); p.problem() != "form_expired" {
		t.Errorf("the form of the account page: %d %q", p.status, p.problem())
	}
	alice.get("/account").send("/logout")
	for _, user := range []string{"", "bob"} {
		if user != "" {
			alice.get("/account").signIn(user, password)
		}
		if p := alice.post("/account/factor", with(f, "decision", "enrol", "code", a.code(-1))); p.problem() != "form_expired" || len(p.codes()) > 0 {
			t.Errorf("signed in as %q: %d %q", user, p.status, p.problem())
		}
	}
	r := request(http.MethodPost, "/account/factor", f)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if p := alice.send(r); p.status != http.StatusForbidden {
		t.Errorf("from another site: %d", p.status)
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

// factorSteps are the ways with a second factor. Recovery codes are used, since a
// step that met a fault may have used its code up.
func factorSteps(a *app) []step {
	next := func() string {
		code := a.recovery[0]
		a.recovery = a.recovery[1:]
		return code
	}
	tries, renewing := -1, 0
	enrolled := func(f *flow, resp *http.Response) *http.Response {
		if codes := f.page.codes(); resp.StatusCode == http.StatusOK {
			a.recovery = codes
		}
		return resp
	}
	return []step{
		{"open the account page", func(f *flow) *http.Response { return f.opened("/account") }},
		{"sign in", func(f *flow) *http.Response {
			return f.submitted("/login", "username", "alice", "password", password)
		}},
		{"see the key", func(f *flow) *http.Response {
			resp := f.opened("/account/factor")
			if resp.StatusCode == http.StatusOK {
				a.secret = f.page.scan().secret
			}
			return resp
		}},
		{"set the app up", func(f *flow) *http.Response {
			code := a.code(tries)
			tries++
			return enrolled(f, f.submitted("/account/factor", "decision", "enrol", "code", code))
		}},
		{"see the account", func(f *flow) *http.Response { return f.opened("/account") }},
		{"sign out", func(f *flow) *http.Response { return f.submitted("/logout") }},
		{"open the account page again", func(f *flow) *http.Response { return f.opened("/account") }},
		{"sign in with the password", func(f *flow) *http.Response {
			return f.submitted("/login", "username", "alice", "password", password)
		}},
		{"see the page for the code", func(f *flow) *http.Response { return f.opened(f.page.header.Get("Location")) }},
		{"use a recovery code", func(f *flow) *http.Response { return f.submitted("/login/code", "recovery", next()) }},
		{"see what can be changed", func(f *flow) *http.Response { return f.opened("/account/factor") }},
		{"renew the codes", func(f *flow) *http.Response {
			form := f.page
			defer func() { f.page = form }()
			field, code := "recovery", next()
			if renewing++; renewing > 1 {
				field, code = "code", a.code(1) // the recovery codes may be others by now
			}
			return enrolled(f, f.submitted("/account/factor", "decision", "renew", field, code))
		}},
		{"turn it off", func(f *flow) *http.Response {
			return f.submitted("/account/factor", "decision", "remove", "recovery", next())
		}},
	}
}

func TestAStoreFaultWithASecondFactorIsA503(t *testing.T) {
	run := func(n int, when storetest.Moment) []storetest.Call {
		s := newSite(t)
		f := &flow{site: s, browser: s.browser()}
		before := len(s.store.Calls())
		s.store.FailCall(n, when)
		for _, step := range factorSteps(&app{t: t}) {
			if !f.survives(step, n, when) {
				break
			}
		}
		return s.store.Calls()[before:]
	}
	for n, when := range faults(t, run(0, storetest.Before)) {
		run(n, when)
	}
}
