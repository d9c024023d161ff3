package authserver_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/html"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// provider is a login whose user has just signed in there.
type provider struct {
	mu       sync.Mutex
	user     login.Identity
	fault    error
	attempts []login.Attempt
	finished int
	gone     bool // its users are not recognized any more
}

func newProvider() *provider {
	return &provider{user: login.Identity{Subject: "acme:42", Email: "carol@example.com", Groups: []string{"staff"}, Provider: "acme"}}
}

func (p *provider) Recognizes(id login.Identity) bool { return id.Provider == "acme" && !p.gone }

func (p *provider) Begin(_ context.Context, a login.Attempt) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attempts = append(p.attempts, a)
	return "https://id.example.net/auth?state=" + url.QueryEscape(a.State), p.fault
}

func (p *provider) Finish(_ context.Context, a login.Attempt, _ url.Values) (login.Identity, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finished++
	if !slices.ContainsFunc(p.attempts, func(began login.Attempt) bool {
		return began.State == a.State && began.Nonce == a.Nonce && began.Verifier == a.Verifier
	}) {
		return login.Identity{}, errors.New("the attempt is none that began")
	}
	return p.user, p.fault
}

// withProvider adds a provider to the configuration.
func withProvider(p *provider) func(*authserver.Config) {
	return func(cfg *authserver.Config) {
		cfg.Redirects = []authserver.Redirect{{ID: "acme", Label: "Acme SSO", Login: p}}
	}
}

// button returns where the link with the text leads.
func (p *page) button(text string) string {
	p.browser.site.t.Helper()
	href := ""
	p.each("a", func(n *html.Node) {
		if n.FirstChild != nil && strings.Contains(n.FirstChild.Data, text) {
			href = attribute(n, "href")
		}
	})
	if href == "" {
		p.browser.site.t.Fatalf("the page (%d) has no button %q:\n%s", p.status, text, p.body)
	}
	return href
}

// away presses the button of the provider and returns the state it was given.
func (p *page) away() string {
	p.browser.site.t.Helper()
	r := p.browser.send(request(http.MethodGet, p.button("Continue with Acme SSO"), nil))
	u, err := url.Parse(r.header.Get("Location"))
	if err != nil || r.status != http.StatusSeeOther || u.Host != "id.example.net" {
		p.browser.site.t.Fatalf("the button answers %d to %q:\n%s", r.status, r.header.Get("Location"), r.body)
	}
	return u.Query().Get("state")
}

func back(state string) string { return "/callback?code=c&state=" + url.QueryEscape(state) }

func TestSignInAtAProvider(t *testing.T) {
	idp := newProvider()
	s := newSite(t, withProvider(idp))
	id, b := s.register(), s.browser()
	p := b.get("/authorize?" + authorization(id).Encode())
	if !strings.Contains(p.body, "Inspector") || !p.has("/login") {
		t.Error("the sign-in page does not say who asks, or has no password form")
	}
	p = b.get(back(p.away()))
	if !p.has("/authorize") || !strings.Contains(p.body, "carol@example.com") {
		t.Fatalf("no consent page but %d:\n%s", p.status, p.body)
	}
	tokens := s.issued(redemption(id, p.submit("decision", "allow").handedOff().Get("code")))
	claims, err := s.verifier.Verify(t.Context(), tokens.text("access_token"))
	if err != nil || claims.Subject != "acme:42" || claims.Email != "carol@example.com" || strings.Join(claims.Groups, ",") != "staff" {
		t.Errorf("the token is about %+v, %v", claims, err)
	}
	tokens = s.issued(renewal(id, tokens.text("refresh_token")))
	a := idp.attempts[0]
	if a.Callback != issuer+"/callback" || len(a.Nonce) < 20 || len(a.Verifier) < 43 {
		t.Errorf("the provider was asked with %+v", a)
	}
	idp.gone = true
	s.token(renewal(id, tokens.text("refresh_token"))).refused(t, http.StatusBadRequest, "invalid_grant")
	if p := b.get("/account"); !p.has("/login") {
		t.Errorf("a user of a login that was taken away is still signed in: %d", p.status)
	}
}

func TestCallbackIsBoundToItsBrowser(t *testing.T) {
	idp := newProvider()
	s := newSite(t, withProvider(idp))
	b := s.browser()
	p := b.get("/authorize?" + authorization(s.register()).Encode())
	state := p.away()
	sealed := p.form("/login").values.Get("token")
	stranger := s.browser()
	stranger.get("/account") // has a cookie of its own
	for _, tt := range []struct{ name, target, problem string }{
		{"without a cookie", back(state), "other_browser"},
		{"no state", "/callback?code=c", "form_expired"},
		{"a state that is junk", back("junk"), "form_expired"},
		{"a form in place of a state", back(sealed), "form_expired"},
		{"two states", back(state) + "&state=x", "invalid_request"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, other := range []*browser{s.browser(), stranger} {
				p := other.get(tt.target)
				if p.problem() != tt.problem || other.cookie("__Host-mcp_session") != "" || p.status != http.StatusBadRequest {
					t.Errorf("got %d %q", p.status, p.problem())
				}
			}
		})
	}
	if p := stranger.get("/authorize?continue=" + url.QueryEscape(state)); p.problem() != "form_expired" {
		t.Errorf("the state is good as an authorization request: %q", p.problem())
	}
	if p := stranger.get("/login/provider?login=acme&continue=" + url.QueryEscape(sealed)); p.problem() != "other_browser" {
		t.Errorf("another browser leaves with the request: %q", p.problem())
	}
	if idp.finished != 0 {
		t.Errorf("the provider was asked %d times", idp.finished)
	}
	if p := b.get(back(state)); !p.has("/authorize") {
		t.Errorf("the browser that began cannot go on: %d %q", p.status, p.problem())
	}
}

func TestCallbackWorksOnce(t *testing.T) {
	idp := newProvider()
	s := newSite(t, withProvider(idp))
	b := s.browser()
	state := b.get("/authorize?" + authorization(s.register()).Encode()).away()
	pages := make(chan string, 8)
	var all sync.WaitGroup
	for range cap(pages) {
		all.Go(func() {
			r := request(http.MethodGet, back(state), nil)
			for _, c := range b.jar.Cookies(origin) {
				r.AddCookie(c)
			}
			pages <- s.serve(r).Header.Get("Set-Cookie")
		})
	}
	all.Wait()
	close(pages)
	sessions := 0
	for cookie := range pages {
		if strings.HasPrefix(cookie, "__Host-mcp_session=") {
			sessions++
		}
	}
	if sessions != 1 {
		t.Errorf("%d of the callbacks signed in", sessions)
	}
	before := idp.finished
	if p := b.get(back(state)); p.problem() != "request_expired" || idp.finished != before {
		t.Errorf("a replay is answered %d %q", p.status, p.problem())
	}
}

func TestProvidersThatFail(t *testing.T) {
	for _, tt := range []struct {
		name    string
		fault   error
		status  int
		problem string // of the error page
		goesOn  bool   // with the sign-in page
	}{
		{"an outage", login.ErrUnreachable, http.StatusServiceUnavailable, "", true},
		{"an answer that proves nothing", errors.New("the nonce is wrong"), http.StatusForbidden, "login_failed", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			idp := newProvider()
			s := newSite(t, withProvider(idp))
			b := s.browser()
			first := b.get("/authorize?" + authorization(s.register()).Encode())
			state := first.away()
			idp.fault = tt.fault
			for _, p := range []*page{b.get(back(state)), b.get(first.button("Continue with Acme SSO"))} {
				if p.status != tt.status || p.problem() != tt.problem || p.has("/login") != tt.goesOn || !strings.Contains(p.body, "Acme SSO") {
					t.Errorf("got %d %q:\n%s", p.status, p.problem(), p.body)
				}
				if strings.Contains(p.body, "nonce") || b.cookie("__Host-mcp_session") != "" {
					t.Error("the page tells why, or there is a session")
				}
			}
			idp.fault = nil
			if p := b.get(back(state)); !p.has("/authorize") {
				t.Errorf("the provider is back, but the sign-in cannot go on: %d %q", p.status, p.problem())
			}
		})
	}
}

func TestCancelledAtTheProvider(t *testing.T) {
	idp := newProvider()
	s := newSite(t, withProvider(idp))
	b := s.browser()
	state := b.get("/authorize?" + authorization(s.register()).Encode()).away()
	idp.fault = login.ErrCancelled
	p := b.get(back(state))
	u, err := url.Parse(p.header.Get("Location"))
	if err != nil || p.status != http.StatusSeeOther || !strings.HasPrefix(u.String(), callback) {
		t.Fatalf("got %d to %q", p.status, p.header.Get("Location"))
	}
	if q := u.Query(); q.Get("error") != "access_denied" || q.Get("state") != "xyz" || q.Get("iss") != issuer {
		t.Errorf("the client gets %v", q)
	}
	idp.fault = nil
	state = b.get("/account").away()
	idp.fault = login.ErrCancelled
	if p := b.get(back(state)); !p.has("/login") || p.status != http.StatusOK {
		t.Errorf("on the way to the account page the answer is %d", p.status)
	}
}

func TestUsersThatAreNotAllowed(t *testing.T) {
	idp := newProvider()
	allow := &policy.Allow{Groups: []string{"admins"}, Users: []string{"alice"}}
	s := newSite(t, withProvider(idp), func(cfg *authserver.Config) { cfg.Allow = allow })
	id, b := s.register(), s.browser()
	p := b.get(back(b.get("/authorize?" + authorization(id).Encode()).away()))
	if p.status != http.StatusForbidden || p.problem() != "access_denied" || !strings.Contains(p.body, "carol@example.com") || b.cookie("__Host-mcp_session") != "" {
		t.Fatalf("got %d %q, session %q", p.status, p.problem(), b.cookie("__Host-mcp_session"))
	}
	p = b.post("/login/switch", p.form("/login/switch").values)
	idp.user.Groups = []string{"admins"}
	if p = b.get(back(p.away())); !p.has("/authorize") {
		t.Fatalf("with another account: %d %q", p.status, p.problem())
	}
	if got := idp.attempts[1].Prompt; got != "select_account" {
		t.Errorf("the provider was asked with prompt=%q", got)
	}
	tokens := s.issued(redemption(id, p.submit("decision", "allow").handedOff().Get("code")))
	allow.Groups = nil
	s.token(renewal(id, tokens.text("refresh_token"))).refused(t, http.StatusBadRequest, "invalid_grant")
	if p := b.get("/authorize?" + authorization(id).Encode()); !p.has("/login") {
		t.Errorf("the session goes on: %d", p.status)
	}
	if p := b.loginPage().signIn("bob", password); p.problem() != "access_denied" {
		t.Errorf("a local user who is not allowed: %d %q", p.status, p.problem())
	}
	if p := b.loginPage().signIn("alice", password); !p.has("/authorize") {
		t.Errorf("a local user who is allowed: %d %q", p.status, p.problem())
	}
}

func TestRequestsForANewSignIn(t *testing.T) {
	idp := newProvider()
	s := newSite(t, withProvider(idp))
	id, b := s.register(), s.browser()
	b.get(back(b.get("/authorize?" + authorization(id).Encode()).away()))
	for _, tt := range []struct {
		name  string
		pairs []string
		login bool
	}{
		{"nothing asked", nil, false},
		{"consent", []string{"prompt", "consent"}, false},
		{"a sign-in that is young enough", []string{"max_age", "3600"}, false},
		{"login", []string{"prompt", "login", "login_hint", "dave@example.com"}, true},
		{"login and consent", []string{"prompt", "consent login"}, true},
		{"another account", []string{"prompt", "select_account"}, true},
		{"no old sign-in", []string{"max_age", "0"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := b.get("/authorize?" + authorization(id, tt.pairs...).Encode())
			if p.has("/login") != tt.login {
				t.Fatalf("sign-in page: %t", p.has("/login"))
			}
			if !tt.login {
				return
			}
			if p = b.get(back(p.away())); p.has("/login") {
				t.Error("a new sign-in does not do")
			}
		})
	}
	a := idp.attempts[1]
	if a.Prompt != "login" || a.Hint != "dave@example.com" {
		t.Errorf("the provider was asked with %+v", a)
	}
	if a := idp.attempts[4]; a.MaxAge == nil || *a.MaxAge != 0 {
		t.Errorf("the provider was asked with %+v", a)
	}
	p := b.get("/authorize?" + authorization(id, "max_age", "-1").Encode())
	if !strings.Contains(p.header.Get("Location"), "invalid_request") {
		t.Errorf("a negative max_age: %d", p.status)
	}
	p = b.get("/authorize?" + authorization(id, "prompt", "none", "max_age", "0").Encode())
	if !strings.Contains(p.header.Get("Location"), "login_required") {
		t.Errorf("prompt=none with an old sign-in: %q", p.header.Get("Location"))
	}
}

func TestAnswersThatProveNothingAreLimited(t *testing.T) {
	idp := newProvider()
	s := newSite(t, withProvider(idp))
	b := s.browser()
	state := b.get("/authorize?" + authorization(s.register()).Encode()).away()
	idp.fault = errors.New("no such code")
	for range 10 {
		b.get(back(state))
	}
	if p := b.get(back(state)); p.status != http.StatusTooManyRequests || idp.finished != 10 {
		t.Errorf("the eleventh try is answered %d after %d questions to the provider", p.status, idp.finished)
	}
	idp.fault = nil
	other := s.browser()
	other.peer = "192.0.2.77:1"
	if p := other.get(back(other.loginPage().away())); !p.has("/authorize") {
		t.Errorf("others cannot sign in: %d", p.status)
	}
}
