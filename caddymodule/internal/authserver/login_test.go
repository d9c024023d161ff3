package authserver_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// loginPage opens the sign-in page of an authorization request.
func (b *browser) loginPage() *page {
	b.site.t.Helper()
	return b.get("/authorize?" + authorization(b.site.register()).Encode())
}

func TestUnknownUsersAndWrongPasswordsLookTheSame(t *testing.T) {
	for _, c := range []struct{ rule, user, pass string }{
		{"a wrong password", "alice", "wrong"},
		{"an unknown user", "mallory", password},
		{"a space behind the name", "alice ", password},
		{"another case of the name", "Alice", password},
		{"no password", "alice", ""},
		{"no name", "", password},
	} {
		t.Run(c.rule, func(t *testing.T) {
			s := newSite(t)
			p := s.browser().loginPage().signIn(c.user, c.pass)
			other := s.browser()
			other.peer = "192.0.2.2:1" // so that each of them has made one try
			want := other.loginPage().signIn("nobody", "wrong")
			if p.status != http.StatusForbidden || s.users.checks != 2 {
				t.Errorf("status %d after %d checks, want 403 after one for each try", p.status, s.users.checks)
			}
			// The pages differ in what was typed and in their sealed values.
			if got, want := p.failure(), want.failure(); got != want || got == "" {
				t.Errorf("the page says %q, for an unknown user %q", got, want)
			}
			if p.browser.cookie("__Host-mcp_session") != "" {
				t.Error("there is a session")
			}
		})
	}
}

// failure returns the text of the notice on the sign-in page.
func (p *page) failure() string {
	_, rest, _ := strings.Cut(p.body, `id="failure">`)
	text, _, _ := strings.Cut(rest, "</div>")
	return text
}

func TestWhatIsTooLongIsRefusedWithoutBeingChecked(t *testing.T) {
	s := newSite(t)
	for _, c := range [][2]string{
		{strings.Repeat("a", 257), password},
		{"alice", strings.Repeat("p", 1025)},
		{"alice\x00", password},
	} {
		if p := s.browser().loginPage().signIn(c[0], c[1]); p.status != http.StatusForbidden {
			t.Errorf("%.10q: status %d", c[0], p.status)
		}
	}
	if s.users.checks != 0 {
		t.Errorf("%d passwords were checked", s.users.checks)
	}
	if p := s.browser().loginPage().signIn(strings.Repeat("a", 70000), password); p.status != http.StatusBadRequest {
		t.Errorf("a form without end: status %d", p.status)
	}
}

func TestTheSessionCookieStaysOnThisHostAndOutOfScripts(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	f := b.loginPage().form("/login")
	f.values.Set("username", "alice")
	f.values.Set("password", password)
	p := b.postOnce("/login", f.values)
	if p.status != http.StatusSeeOther || p.header.Get("Cache-Control") != "no-store" {
		t.Errorf("after sign-in: %d with Cache-Control %q", p.status, p.header.Get("Cache-Control"))
	}
	got := p.header.Values("Set-Cookie")
	if len(got) != 1 || !strings.HasPrefix(got[0], "__Host-mcp_session=") ||
		!strings.HasSuffix(got[0], "; Path=/; Max-Age=43200; HttpOnly; Secure; SameSite=Lax") {
		t.Errorf("the cookies are %q", got)
	}
}

func TestEverySignInMakesANewSession(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	b.jar.SetCookies(origin, []*http.Cookie{{Name: "__Host-mcp_session", Value: "aaaaaaaaaaaaaaaa." + strings.Repeat("A", 26), Path: "/", Secure: true}})
	b.loginPage().signIn("alice", password)
	first := b.cookie("__Host-mcp_session")
	if first == "" || strings.HasPrefix(first, "aaaaaaaaaaaaaaaa.") {
		t.Fatalf("the session is %q", first)
	}
	other := s.browser()
	other.loginPage().signIn("alice", password)
	if second := other.cookie("__Host-mcp_session"); second == first || second == "" {
		t.Errorf("two sign-ins share the session %q", second)
	}
}

func TestASessionThatNobodyStartedIsNone(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	b.loginPage().signIn("alice", password)
	good := b.cookie("__Host-mcp_session")
	user, random, _ := strings.Cut(good, ".")
	for _, c := range []struct{ rule, value string }{
		{"another random part", user + "." + flip(random)},
		{"another user's part", "aaaaaaaaaaaaaaaa." + random},
		{"no user's part", "." + random},
		{"no random part", user + "."},
		{"another key of the store", "../" + user + "." + random},
		{"the two parts joined", user + "/" + random},
		{"something long", strings.Repeat("x", 300)},
	} {
		t.Run(c.rule, func(t *testing.T) {
			other := s.browser()
			other.jar.SetCookies(origin, []*http.Cookie{{Name: "__Host-mcp_session", Value: c.value, Path: "/", Secure: true}})
			if !other.get("/account").has("/login") {
				t.Error("it is a session")
			}
		})
	}
	t.Run("a cookie that stands there twice", func(t *testing.T) {
		r := request(http.MethodGet, "/account", nil)
		r.Header.Set("Cookie", "__Host-mcp_session="+good+"; __Host-mcp_session="+good)
		if p := s.browser().send(r); !p.has("/login") {
			t.Error("it is a session")
		}
	})
}

func TestASessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		b := s.browser()
		b.loginPage().signIn("alice", password)
		time.Sleep(12*time.Hour - time.Second)
		cookie := b.cookie("__Host-mcp_session")
		if b.get("/account").has("/login") {
			t.Error("it ended before its time")
		}
		time.Sleep(time.Second)
		b.jar.SetCookies(origin, []*http.Cookie{{Name: "__Host-mcp_session", Value: cookie, Path: "/", Secure: true}})
		if !b.get("/account").has("/login") {
			t.Error("it goes on after its time")
		}
	})
}

func TestGuessingIsSlowedDown(t *testing.T) {
	for _, c := range []struct {
		rule string
		user func(i int) string
		peer func(i int) string
		held bool
	}{
		{"for one account, from everywhere", func(int) string { return "alice" }, manyPeers, true},
		{"for one account, in many spellings", func(i int) string { return strings.Repeat(" ", i) + "ALICE"[:i%5] + "alice"[i%5:] }, manyPeers, true},
		{"for a name without end", func(i int) string { return strings.Repeat("a", 300+i) }, manyPeers, true},
		{"from one address, for all accounts", manyUsers, func(int) string { return "192.0.2.1:1" }, true},
		{"from one address, from many ports", manyUsers, func(i int) string { return fmt.Sprintf("192.0.2.1:%d", 1000+i) }, true},
		{"from one network of IPv6", manyUsers, func(i int) string { return fmt.Sprintf("2001:db8::%x", i) }, true},
		{"from one address in two notations", manyUsers, func(i int) string { return [...]string{"192.0.2.1", "::ffff:192.0.2.1"}[i%2] }, true},
		{"and nobody else is", manyUsers, manyPeers, false},
	} {
		t.Run(c.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				b := s.browser()
				f := b.loginPage().form("/login")
				f.values.Set("password", "wrong")
				try := func(i int) *page {
					b.peer = c.peer(i)
					f.values.Set("username", c.user(i))
					r := request(http.MethodPost, "/login", f.values)
					// What the client says about its address plays no role.
					r.Header.Set("X-Forwarded-For", fmt.Sprintf("203.0.113.%d", i))
					return b.send(r)
				}
				for i := range 10 {
					if p := try(i); p.status != http.StatusForbidden {
						t.Fatalf("try %d: status %d", i, p.status)
					}
				}
				p := try(10)
				if held := p.status == http.StatusTooManyRequests; held != c.held || held && p.header.Get("Retry-After") == "" {
					t.Fatalf("try 11: status %d with Retry-After %q", p.status, p.header.Get("Retry-After"))
				}
				if !c.held {
					return
				}
				// Held-back tries are not counted, so the pause has an end.
				for i := range 20 {
					if p := try(11 + i); p.status != http.StatusTooManyRequests {
						t.Errorf("try %d: status %d", 12+i, p.status)
					}
				}
				time.Sleep(time.Minute)
				if p := try(40); p.status != http.StatusForbidden {
					t.Errorf("after the pause: status %d", p.status)
				}
			})
		})
	}
}

// A few tries in each minute do not keep somebody out who has signed in from the same
// address before.
func TestNobodyIsLockedOutAtHome(t *testing.T) {
	s := newSite(t)
	home := s.browser()
	home.peer = "192.0.2.1:1"
	home.loginPage().signIn("alice", password)
	stranger := s.browser()
	f := stranger.loginPage().form("/login")
	f.values.Set("username", "alice")
	f.values.Set("password", "wrong")
	for i := range 11 {
		stranger.peer = manyPeers(i)
		if p := stranger.send(request(http.MethodPost, "/login", f.values)); (p.status == http.StatusTooManyRequests) != (i == 10) {
			t.Errorf("try %d of strangers: status %d", i, p.status)
		}
	}
	again := s.browser()
	again.peer = "192.0.2.1:2"
	again.loginPage().signIn("alice", password)
	if again.cookie("__Host-mcp_session") == "" {
		t.Error("strangers have locked the user out")
	}
}

func manyPeers(i int) string { return fmt.Sprintf("198.51.100.%d:1", i) }
func manyUsers(i int) string { return fmt.Sprintf("user%d", i) }

func TestParallelGuessesGetNoMoreTries(t *testing.T) {
	s := newSite(t, func(c *authserver.Config) { c.LoginWindow = 24 * time.Hour })
	b := s.browser()
	f := b.loginPage().form("/login")
	f.values.Set("username", "alice")
	f.values.Set("password", "wrong")
	cookies := b.jar.Cookies(origin)
	var checked atomic.Int32
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			r := request(http.MethodPost, "/login", f.values)
			for _, c := range cookies {
				r.AddCookie(c)
			}
			if s.serve(r).StatusCode == http.StatusForbidden {
				checked.Add(1)
			}
		})
	}
	wg.Wait()
	if checked.Load() != 10 {
		t.Errorf("%d of 200 parallel guesses were checked, want 10", checked.Load())
	}
}

func TestSigningInIsNotCountedAsGuessing(t *testing.T) {
	s := newSite(t)
	for range 30 {
		b := s.browser()
		b.loginPage().signIn("alice", password)
		if b.cookie("__Host-mcp_session") == "" {
			t.Fatal("sign-in was held back")
		}
	}
}

func TestABusyServerAsksToComeBack(t *testing.T) {
	for _, c := range []struct {
		rule  string
		fault error
	}{
		{"too many sign-ins at once", login.ErrBusy},
		{"a check that cannot be made", errors.New("no connection")},
	} {
		t.Run(c.rule, func(t *testing.T) {
			s := newSite(t)
			s.users.fault = c.fault
			p := s.browser().loginPage().signIn("alice", password)
			if p.status != http.StatusServiceUnavailable || p.header.Get("Retry-After") == "" {
				t.Errorf("status %d with Retry-After %q", p.status, p.header.Get("Retry-After"))
			}
		})
	}
}

func TestSomebodyElseCanSignInOnTheConsentPage(t *testing.T) {
	s := newSite(t)
	id := s.register()
	b := s.browser()
	p := b.consent(authorization(id))
	old := b.cookie("__Host-mcp_session")
	p = b.post("/login/switch", p.form("/login/switch").values)
	if b.cookie("__Host-mcp_session") != "" || !p.has("/login") {
		t.Fatal("still signed in")
	}
	other := s.browser()
	other.jar.SetCookies(origin, []*http.Cookie{{Name: "__Host-mcp_session", Value: old, Path: "/", Secure: true}})
	if !other.get("/account").has("/login") {
		t.Error("the session lives on at the server")
	}
	a := s.issued(redemption(id, p.signIn("bob", password).submit("decision", "allow").handedOff().Get("code")))
	if claims, err := s.verifier.Verify(t.Context(), a.text("access_token")); err != nil || claims.Subject != "bob" {
		t.Errorf("claims are %+v, %v", claims, err)
	}
}

// A stranger's page cannot sign a browser in as somebody of its choice.
func TestASignInFormOfAnotherBrowserOrSiteIsRefused(t *testing.T) {
	s := newSite(t)
	attacker, victim := s.browser(), s.browser()
	f := attacker.loginPage().form("/login")
	f.values.Set("username", "bob")
	f.values.Set("password", password)
	for _, known := range []bool{false, true} {
		if known {
			victim.loginPage()
		}
		if p := victim.post("/login", f.values); p.status != http.StatusBadRequest || p.problem() != "other_browser" {
			t.Errorf("another browser's form: %d %q", p.status, p.problem())
		}
	}
	f = victim.loginPage().form("/login")
	f.values.Set("username", "bob")
	f.values.Set("password", password)
	for _, from := range []string{"cross-site", "same-site", "nonsense"} {
		for _, path := range []string{"/login", "/login/switch", "/authorize", "/logout", "/account/revoke"} {
			r := request(http.MethodPost, path, f.values)
			r.Header.Set("Sec-Fetch-Site", from)
			if p := victim.send(r); p.status != http.StatusForbidden || p.problem() != "form_expired" {
				t.Errorf("a form for %s from %s: %d %q", path, from, p.status, p.problem())
			}
		}
	}
	if s.users.checks != 0 || victim.cookie("__Host-mcp_session") != "" {
		t.Error("the victim is signed in")
	}
}

func TestRepeatedFieldsOfAFormAreRefused(t *testing.T) {
	s := newSite(t)
	for _, field := range []string{"username", "password"} {
		b := s.browser()
		f := b.loginPage().form("/login")
		f.values = with(f.values, "username", "alice", "password", password)
		f.values.Add(field, "other")
		if p := b.post("/login", f.values); p.status != http.StatusBadRequest || p.problem() != "invalid_request" {
			t.Errorf("%s twice: %d %q", field, p.status, p.problem())
		}
	}
}

// What was typed comes back in the page and must not act there.
func TestTheUserNameIsTextOnThePage(t *testing.T) {
	s := newSite(t)
	p := s.browser().loginPage().signIn(`"><script>alert(1)</script>`, "wrong")
	if strings.Contains(p.body, "<script") {
		t.Error("the page has a script")
	}
	if csp := p.header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") {
		t.Errorf("the policy is %q", csp)
	}
}

func TestCookiesOfAnOriginWithoutTLSAreForLocalDevelopment(t *testing.T) {
	s := newSite(t, func(c *authserver.Config) { c.Issuer = "http://127.0.0.1:8080" })
	p := s.browser().get("/authorize?" + url.Values(authorization(s.register(), "resource", "-")).Encode())
	if got := p.header.Get("Set-Cookie"); !strings.HasPrefix(got, "mcp_browser=") || strings.Contains(got, "Secure") {
		t.Errorf("the cookie is %q", got)
	}
}
