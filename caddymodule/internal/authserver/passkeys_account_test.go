package authserver_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

func TestNewPasskeysThatFail(t *testing.T) {
	s := newSite(t)
	b, _ := s.signedIn("alice")
	evil := newAuthenticator()
	evil.Origin = "https://evil.example"
	if p := b.addPasskey(evil, "x"); p.status != http.StatusForbidden || p.failure() == "" {
		t.Errorf("from another origin: %d", p.status)
	}
	p := b.get("/account/passkey")
	for _, answer := range []string{"", "{}", strings.Repeat("x", 40000)} {
		if q := p.send("/account/passkey", "answer", answer, "name", "x"); q.status != http.StatusForbidden {
			t.Errorf("%.10q: %d", answer, q.status)
		}
	}
	good := newAuthenticator()
	answer, err := good.Create(p.options())
	if err != nil {
		t.Fatal(err)
	}
	values := with(p.form("/account/passkey").values, "answer", string(answer), "name", "  ")
	bob, _ := s.signedIn("bob")
	if q := bob.post("/account/passkey", values); q.problem() != "other_browser" {
		t.Errorf("in another browser: %d %q", q.status, q.problem())
	}
	if q := b.post("/login/passkey", values); q.problem() != "form_expired" {
		t.Errorf("as a sign-in: %d %q", q.status, q.problem())
	}
	if q := b.post("/account/passkey", values); q.status != http.StatusOK || !strings.Contains(q.body, "Added Passkey") {
		t.Errorf("the right way, without a name: %d\n%s", q.status, q.body)
	}
	if q := b.post("/account/passkey", values); q.problem() != "request_expired" {
		t.Errorf("a second time: %d %q", q.status, q.problem())
	}
	b.get("/account").send("/logout")
	b.get("/account").signIn("bob", password)
	if q := b.post("/account/passkey", values); q.problem() != "form_expired" {
		t.Errorf("in another session: %d %q", q.status, q.problem())
	}
	if q := b.get("/account"); strings.Contains(q.body, "Passkey</bdi>") {
		t.Error("bob has alice's passkey")
	}
}

func TestANewPasskeyOfAnotherTabHasToBeAskedForAgain(t *testing.T) {
	s := newSite(t)
	b, _ := s.signedIn("alice")
	one, two := b.get("/account/passkey"), b.get("/account/passkey")
	create := func(p *page) string {
		answer, err := newAuthenticator().Create(p.options())
		if err != nil {
			t.Fatal(err)
		}
		return string(answer)
	}
	if p := one.send("/account/passkey", "answer", create(one), "name", "First"); !strings.Contains(p.body, "Added First") {
		t.Fatalf("the first: %d\n%s", p.status, p.body)
	}
	again := two.send("/account/passkey", "answer", create(two), "name", "Phone")
	if again.status != http.StatusForbidden || again.failure() == "" {
		t.Errorf("the second: %d %q", again.status, again.failure())
	}
	if p := again.send("/account/passkey", "answer", create(again), "name", "Third"); !strings.Contains(p.body, "Added Third") || strings.Contains(p.body, "Phone") {
		t.Errorf("the third: %d\n%s", p.status, p.body)
	}
}

func TestRemovingAPasskey(t *testing.T) {
	s, a, b := withPasskey(t)
	bob, _ := s.signedIn("bob")
	f := b.get("/account").form("/account/passkey/remove").values
	if p := bob.post("/account/passkey/remove", with(url.Values{}, "token", bob.get("/account").form("/logout").values.Get("token"), "passkey", f.Get("passkey"))); !p.has("/logout") {
		t.Errorf("by another user: %d", p.status)
	}
	if p := s.browser().get("/account").usePasskey(a); !p.has("/logout") {
		t.Fatalf("another user has removed it: %d", p.status)
	}
	if p := b.post("/account/passkey/remove", with(url.Values{}, "token", f.Get("token"), "passkey", "%%%")); !p.has("/logout") || strings.Contains(p.body, "Removed") {
		t.Errorf("one that there is not: %d", p.status)
	}
	if p := b.post("/account/passkey/remove", f); !strings.Contains(p.body, "Removed Laptop") || p.has("/account/passkey/remove") {
		t.Errorf("got %d\n%s", p.status, p.body)
	}
	if p := b.post("/account/passkey/remove", f); !p.has("/logout") {
		t.Errorf("twice: %d", p.status)
	}
	if p := s.browser().get("/account").usePasskey(a); p.status != http.StatusForbidden {
		t.Errorf("it still signs in: %d", p.status)
	}
}

func TestRemovingAPasskeyNeedsASignInOfLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, b := withPasskey(t)
		time.Sleep(5*time.Minute + time.Second)
		p := b.get("/account").send("/account/passkey/remove")
		if !p.has("/login") || !strings.Contains(p.body, "sign in once more") {
			t.Fatalf("got %d\n%s", p.status, p.body)
		}
		p = p.usePasskey(a)
		if p = p.send("/account/passkey/remove"); !strings.Contains(p.body, "Removed Laptop") {
			t.Errorf("after signing in again: %d", p.status)
		}
		if q := s.browser().get("/account").usePasskey(a); q.status != http.StatusForbidden {
			t.Errorf("it still signs in: %d", q.status)
		}
	})
}

func TestThereAreTenPasskeysAtMost(t *testing.T) {
	s := newSite(t)
	b, _ := s.signedIn("alice")
	early := b.get("/account/passkey")
	for range 10 {
		b.addPasskey(newAuthenticator(), "x")
	}
	p := b.get("/account")
	if strings.Contains(p.body, `href="/account/passkey"`) || !strings.Contains(p.body, "You have as many as there can be") {
		t.Error("the page offers one more")
	}
	if p := b.get("/account/passkey"); !p.has("/logout") {
		t.Errorf("the page for one more: %d", p.status)
	}
	answer, err := newAuthenticator().Create(early.options())
	if err != nil {
		t.Fatal(err)
	}
	early.send("/account/passkey", "answer", string(answer), "name", "y")
	if p := b.get("/account"); strings.Count(p.body, `action="/account/passkey/remove"`) != 10 {
		t.Errorf("there are %d", strings.Count(p.body, `action="/account/passkey/remove"`))
	}
}

func TestAStoreFaultWhileAPasskeyIsAddedCanBeRepeated(t *testing.T) {
	run := func(n int, when storetest.Moment) []storetest.Call {
		s := newSite(t)
		b, _ := s.signedIn("alice")
		a := newAuthenticator()
		p := b.get("/account/passkey")
		answer, err := a.Create(p.options())
		if err != nil {
			t.Fatal(err)
		}
		values := with(p.form("/account/passkey").values, "answer", string(answer), "name", "Laptop")
		before := len(s.store.Calls())
		s.store.FailCall(n, when)
		q := b.post("/account/passkey", values)
		calls := s.store.Calls()[before:]
		if n > 0 {
			if q.status != http.StatusServiceUnavailable || q.header.Get("Retry-After") == "" {
				t.Errorf("call %d fails %s: %d", n, when, q.status)
			}
			b.post("/account/passkey", values)
		}
		if q := b.get("/account"); strings.Count(q.body, `action="/account/passkey/remove"`) != 1 {
			t.Errorf("call %d fails %s: there are %d passkeys", n, when, strings.Count(q.body, `action="/account/passkey/remove"`))
		}
		return calls
	}
	for n, when := range faults(t, run(0, storetest.Before)) {
		run(n, when)
	}
}
