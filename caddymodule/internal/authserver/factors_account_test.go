package authserver_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/limit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

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
		s.counts = limit.NewCounts()
		s.reopen()
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
