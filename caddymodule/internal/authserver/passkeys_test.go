package authserver_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/html"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/factor/factortest"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

func newAuthenticator() *factortest.Authenticator {
	return factortest.New(issuer, "mcp.example.com")
}

// options are what the page with the script asks an authenticator.
func (p *page) options() []byte {
	p.browser.site.t.Helper()
	var out string
	p.each("form", func(n *html.Node) {
		if attribute(n, "id") == "passkey" {
			out = attribute(n, "data-options")
		}
	})
	if !json.Valid([]byte(out)) {
		p.browser.site.t.Fatalf("the page (%d) asks for no passkey:\n%s", p.status, p.body)
	}
	return []byte(out)
}

// link returns the address of a link by its text.
func (p *page) link(text string) string {
	p.browser.site.t.Helper()
	var out string
	p.each("a", func(n *html.Node) {
		if n.FirstChild != nil && n.FirstChild.Data == text {
			out = attribute(n, "href")
		}
	})
	if out == "" {
		p.browser.site.t.Fatalf("the page (%d) has no link %q:\n%s", p.status, text, p.body)
	}
	return out
}

// addPasskey adds a passkey to the account of a browser.
func (b *browser) addPasskey(a *factortest.Authenticator, name string) *page {
	b.site.t.Helper()
	p := b.get("/account/passkey")
	answer, err := a.Create(p.options())
	if err != nil {
		b.site.t.Fatal(err)
	}
	return p.send("/account/passkey", "answer", string(answer), "name", name)
}

// usePasskey signs in on the sign-in page at hand.
func (p *page) usePasskey(a *factortest.Authenticator) *page {
	p.browser.site.t.Helper()
	q := p.browser.get(p.link("Use a passkey"))
	return q.send("/login/passkey", "answer", q.answer(a))
}

// answer is what the script would post.
func (p *page) answer(a *factortest.Authenticator) string {
	p.browser.site.t.Helper()
	answer, err := a.Get(p.options())
	if err != nil {
		p.browser.site.t.Fatal(err)
	}
	return string(answer)
}

// withPasskey returns a site in which alice has a passkey.
func withPasskey(t *testing.T, change ...func(*authserver.Config)) (*site, *factortest.Authenticator, *browser) {
	t.Helper()
	s := newSite(t, change...)
	b, _ := s.signedIn("alice")
	a := newAuthenticator()
	if p := b.addPasskey(a, "Laptop"); p.status != http.StatusOK || !strings.Contains(p.body, "Added Laptop") {
		t.Fatalf("adding: %d\n%s", p.status, p.body)
	}
	return s, a, b
}

func TestAPasskeySignsIn(t *testing.T) {
	s, a, alice := withPasskey(t)
	alice.enrol() // a passkey stands for both factors
	b := s.browser()
	p := b.loginPage().usePasskey(a)
	if !p.has("/authorize") || !strings.Contains(p.body, "alice@example.com") {
		t.Fatalf("got %d\n%s", p.status, p.body)
	}
	if code := p.submit("decision", "allow").handedOff().Get("code"); code == "" {
		t.Error("the way ends there")
	}
	p = s.browser().get("/account").usePasskey(a)
	if !p.has("/logout") || !strings.Contains(p.body, "Laptop") || !strings.Contains(p.body, "last used just now") {
		t.Errorf("on the way to the account page: %d\n%s", p.status, p.body)
	}
	if _, bob := s.signedIn("bob"); strings.Contains(bob.body, "Laptop") {
		t.Error("another user sees it")
	}
}

func TestOnlyThePageForPasskeysHasAScript(t *testing.T) {
	s, _, b := withPasskey(t)
	scripted := s.browser().get("/account")
	for name, p := range map[string]*page{
		"sign-in": scripted, "account": b.get("/account"), "second factor": b.get("/account/factor"), "sign-in for an app": s.browser().loginPage(),
	} {
		if strings.Contains(p.body, "<script") || strings.Contains(p.header.Get("Content-Security-Policy"), "script-src") {
			t.Errorf("%s has a script", name)
		}
	}
	for _, p := range []*page{b.get("/account/passkey"), scripted.browser.get(scripted.link("Use a passkey"))} {
		if csp := p.header.Get("Content-Security-Policy"); !strings.Contains(csp, "script-src 'sha256-") || strings.Contains(csp, "unsafe") {
			t.Errorf("the policy is %q", csp)
		}
		if !strings.Contains(p.body, "Passkeys need JavaScript") || strings.Count(p.body, "<script") != 1 {
			t.Errorf("the page says nothing without scripts, or has several:\n%s", p.body)
		}
	}
}

func TestTheWayBackFromThePageForPasskeys(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	first := b.loginPage()
	p := b.get(b.get(first.link("Use a passkey")).link("Back to sign-in"))
	if p = p.signIn("alice", password); !p.has("/authorize") {
		t.Errorf("the request does not go on: %d", p.status)
	}
	if p := b.get("/account/passkey"); p.link("Back to your account") != "/account" {
		t.Errorf("adding one leads back to %s", p.link("Back to your account"))
	}
}

func TestSignInsByPasskeyThatFail(t *testing.T) {
	for _, tt := range []struct {
		name    string
		happens func(*site, *factortest.Authenticator)
		status  int
		problem string
	}{
		{"at another origin", func(_ *site, a *factortest.Authenticator) { a.Origin = "https://evil.example" }, 403, ""},
		{"without verifying the user", func(_ *site, a *factortest.Authenticator) { a.Flags = factortest.Present }, 403, ""},
		{"with a counter that stays", func(_ *site, a *factortest.Authenticator) { a.Step = 0 }, 403, ""},
		{"of a user who is gone", func(s *site, _ *factortest.Authenticator) {
			s.users.change(func(known map[string]login.Identity) { delete(known, "alice") })
		}, 403, ""},
		{"after a new password", func(s *site, _ *factortest.Authenticator) {
			s.users.change(func(known map[string]login.Identity) {
				known["alice"] = login.Identity{Subject: "alice", Provider: "local", Stamp: "2"}
			})
		}, 403, ""},
		{"after a reset", func(s *site, _ *factortest.Authenticator) {
			if before, ok, err := s.ResetFactors(s.t.Context(), "alice"); err != nil || !ok || len(before.Passkeys) != 1 {
				s.t.Errorf("reset: %+v, %t, %v", before, ok, err)
			}
		}, 403, ""},
		{"of a user who is not allowed", func(s *site, _ *factortest.Authenticator) {
			s.reopen(func(cfg *authserver.Config) { cfg.Allow = &policy.Allow{Users: []string{"bob"}} })
		}, 403, "access_denied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, a, _ := withPasskey(t)
			a.Step = 1
			if p := s.browser().get("/account").usePasskey(a); !p.has("/logout") {
				t.Fatalf("before that: %d", p.status)
			}
			tt.happens(s, a)
			b := s.browser()
			p := b.loginPage().usePasskey(a)
			if p.status != tt.status || p.problem() != tt.problem || b.signedIn() {
				t.Fatalf("got %d %q", p.status, p.problem())
			}
			if tt.problem == "" && !strings.Contains(p.failure(), "That passkey was not accepted") {
				t.Errorf("the page says %q", p.failure())
			}
		})
	}
}

func TestAnAnswerOfAPasskeyIsGoodOnceAndInOneBrowser(t *testing.T) {
	s := newSite(t)
	synced := newAuthenticator()
	synced.Step = 0 // so that its counter does not tell a second use
	bob, _ := s.signedIn("bob")
	bob.addPasskey(synced, "Phone")
	b := s.browser()
	sign := b.loginPage()
	p := b.get(sign.link("Use a passkey"))
	values := with(p.form("/login/passkey").values, "answer", p.answer(synced))
	other := s.browser()
	other.loginPage()
	if q := other.post("/login/passkey", values); q.problem() != "other_browser" || other.signedIn() {
		t.Errorf("in another browser: %d %q", q.status, q.problem())
	}
	for _, path := range []string{"/login", "/login/code", "/authorize", "/account/passkey"} {
		if q := b.post(path, values); q.problem() != "form_expired" && q.problem() != "request_expired" || b.signedIn() {
			t.Errorf("at %s: %d %q", path, q.status, q.problem())
		}
	}
	again := b.get(sign.link("Use a passkey"))
	if q := b.post("/login/passkey", with(again.form("/login/passkey").values, "answer", values.Get("answer"))); q.status != http.StatusForbidden || b.signedIn() {
		t.Errorf("for another challenge: %d", q.status)
	}
	if q := b.post("/login/passkey", values); !q.has("/authorize") {
		t.Fatalf("the right way: %d %q", q.status, q.problem())
	}
	b.get("/account").send("/logout")
	if q := b.post("/login/passkey", values); q.problem() != "request_expired" || b.signedIn() {
		t.Errorf("a second time: %d %q", q.status, q.problem())
	}
}

func TestAnAnswerOfAPasskeyIsGoodForTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, _ := withPasskey(t)
		b := s.browser()
		p := b.get(b.get("/account").link("Use a passkey"))
		answer := p.answer(a)
		time.Sleep(10*time.Minute + time.Second)
		if q := p.send("/login/passkey", "answer", answer); q.problem() != "request_expired" || b.signedIn() {
			t.Errorf("got %d %q", q.status, q.problem())
		}
	})
}

func TestAnswersOfPasskeysThatProveNothingAreLimited(t *testing.T) {
	s, a, _ := withPasskey(t)
	b := s.browser()
	p := b.get(b.get("/account").link("Use a passkey"))
	for i := range 10 {
		if q := p.send("/login/passkey", "answer", "{}"); q.status != http.StatusForbidden {
			t.Fatalf("try %d: %d", i+1, q.status)
		}
	}
	if q := p.send("/login/passkey", "answer", p.answer(a)); q.status != http.StatusTooManyRequests || q.header.Get("Retry-After") == "" || b.signedIn() {
		t.Errorf("the eleventh try: %d", q.status)
	}
	other := s.browser()
	other.peer = "192.0.2.77:1"
	if q := other.get("/account").usePasskey(a); !q.has("/logout") {
		t.Errorf("at another address: %d", q.status)
	}
}

func TestWithoutANamePasskeysAreNotOffered(t *testing.T) {
	s := newSite(t, func(cfg *authserver.Config) { cfg.Issuer = "https://192.0.2.10" })
	for _, path := range []string{"/login/passkey", "/account/passkey", "/account/passkey/remove"} {
		if _, ok := s.Endpoint(path); ok {
			t.Errorf("there is %s", path)
		}
	}
	p := s.browser().get("/account")
	if strings.Contains(p.body, "passkey") {
		t.Error("the sign-in page offers one")
	}
	if p = p.signIn("alice", password); strings.Contains(p.body, "passkey") || !strings.Contains(p.body, "/account/factor") {
		t.Errorf("the account page: %d\n%s", p.status, p.body)
	}
}

// A sign-in that met a fault begins anew: its challenge may have been used.
func TestAStoreFaultWithAPasskeyIsA503(t *testing.T) {
	run := func(n int, when storetest.Moment) []storetest.Call {
		s, a, _ := withPasskey(t)
		b := s.browser()
		p := b.get(b.get("/account").link("Use a passkey"))
		before := len(s.store.Calls())
		s.store.FailCall(n, when)
		q := b.postOnce("/login/passkey", with(p.form("/login/passkey").values, "answer", p.answer(a)))
		if n > 0 && (q.status != http.StatusServiceUnavailable || q.header.Get("Retry-After") == "" || b.cookie("__Host-mcp_session") != "") {
			t.Errorf("call %d fails %s: %d", n, when, q.status)
		}
		calls := s.store.Calls()[before:]
		if q := s.browser().get("/account").usePasskey(a); !q.has("/logout") {
			t.Errorf("call %d fails %s: the next sign-in: %d", n, when, q.status)
		}
		return calls
	}
	for n, when := range faults(t, run(0, storetest.Before)) {
		run(n, when)
	}
}
