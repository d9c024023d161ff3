package authserver_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// front is a proxy in front that says who makes each request; "" for nobody.
type front struct {
	user   string
	groups []string
	asked  []string // paths
}

func (f *front) Recognizes(id login.Identity) bool { return id.Provider == "header" }

func (f *front) Identify(r *http.Request) (login.Identity, error) {
	f.asked = append(f.asked, r.URL.Path)
	if f.user == "" {
		return login.Identity{}, login.ErrDenied
	}
	return login.Identity{Subject: "header:" + f.user, Email: f.user + "@example.com", Provider: "header", Groups: f.groups}, nil
}

func newVouchedSite(t *testing.T, f *front, change ...func(*authserver.Config)) *site {
	return newSite(t, append([]func(*authserver.Config){func(cfg *authserver.Config) { cfg.Request, cfg.Password = f, nil }}, change...)...)
}

func TestAProxySaysWhoItIs(t *testing.T) {
	f := &front{user: "carol"}
	s := newVouchedSite(t, f)
	id, b := s.register(), s.browser()
	consent := func() *page { return b.get("/authorize?" + authorization(id).Encode()) }
	p := consent()
	if !p.has("/authorize") || !strings.Contains(p.body, "carol@example.com") {
		t.Fatalf("got %d %q", p.status, p.problem())
	}
	session := b.cookie("__Host-mcp_session")
	tokens := s.issued(redemption(id, p.submit("decision", "allow").handedOff().Get("code")))
	s.issued(renewal(id, tokens.text("refresh_token")))
	if consent(); b.cookie("__Host-mcp_session") != session {
		t.Error("each request makes a session")
	}
	f.user = "dave"
	if p := consent(); !strings.Contains(p.body, "dave@example.com") || strings.Contains(p.body, "carol") {
		t.Errorf("the session counts more than the proxy: %s", p.body)
	}
	f.user = ""
	if p := consent(); p.status != http.StatusForbidden || p.problem() != "login_failed" {
		t.Errorf("without the word of the proxy: %d %q", p.status, p.problem())
	}
}

// What the proxy said at the sign-in counts no longer than it says so: not at the
// authorization endpoint, and not at the pages that it is not asked about.
func TestASessionEndsWithTheWordOfAProxy(t *testing.T) {
	for name, change := range map[string]func(*front){
		"another group":         func(f *front) { f.groups = []string{"guests"} },
		"no group":              func(f *front) { f.groups = nil },
		"a user who may not in": func(f *front) { f.user, f.groups = "dave", nil },
		"nobody":                func(f *front) { f.user = "" },
	} {
		t.Run(name, func(t *testing.T) {
			f := &front{user: "carol", groups: []string{"staff"}}
			s := newVouchedSite(t, f, func(cfg *authserver.Config) { cfg.Allow = &policy.Allow{Groups: []string{"staff"}} })
			b := s.browser()
			address := "/authorize?" + authorization(s.register()).Encode()
			open := b.get(address)
			if !open.has("/authorize") || !b.get("/account").has("/logout") {
				t.Fatalf("before that: %d %q", open.status, open.problem())
			}
			change(f)
			if p := open.submit("decision", "allow"); p.status != http.StatusBadRequest {
				t.Errorf("the decision on the page that is open: %d", p.status)
			}
			if p := b.get(address); p.status != http.StatusForbidden {
				t.Errorf("another request: %d", p.status)
			}
			if b.get("/account").has("/logout") {
				t.Error("the session goes on")
			}
		})
	}
	f := &front{user: "carol", groups: []string{"staff"}}
	s := newVouchedSite(t, f)
	b, id := s.browser(), s.register()
	b.get("/authorize?" + authorization(id).Encode())
	session := b.cookie("__Host-mcp_session")
	if b.get("/authorize?" + authorization(id).Encode()); b.cookie("__Host-mcp_session") != session {
		t.Error("the same word makes a new session")
	}
	f.groups = []string{"staff", "admins"}
	if b.get("/authorize?" + authorization(id).Encode()); b.cookie("__Host-mcp_session") == session || !b.get("/account").has("/logout") {
		t.Error("a further group makes no new session")
	}
}

// The browser changes hands at the proxy while the page of consent is open.
func TestWhomAProxyNamesDecides(t *testing.T) {
	for name, tt := range map[string]struct {
		user   string
		status int
	}{
		"the one who was asked": {"carol", http.StatusOK}, "another one": {"dave", http.StatusBadRequest}, "nobody": {"", http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			f := &front{user: "carol"}
			s := newVouchedSite(t, f)
			p := s.browser().get("/authorize?" + authorization(s.register()).Encode())
			f.user = tt.user
			if p = p.submit("decision", "allow"); p.status != tt.status || strings.Contains(p.body, "code=") != (tt.status == http.StatusOK) {
				t.Errorf("got %d %q", p.status, p.problem())
			}
		})
	}
}

func TestAProxyThatSaysNothingLeavesALocalUserAlone(t *testing.T) {
	s := newVouchedSite(t, &front{}, func(cfg *authserver.Config) { cfg.Password = newUsers() })
	p := s.browser().loginPage().signIn("alice", password)
	if code := p.submit("decision", "allow").handedOff().Get("code"); code == "" {
		t.Error("there is no code")
	}
}

func TestTheWordOfAProxyCountsAtOnePathOnly(t *testing.T) {
	f := &front{user: "carol"}
	s := newVouchedSite(t, f)
	b := s.browser()
	p := b.get("/account")
	if b.cookie("__Host-mcp_session") != "" {
		t.Fatal("the account page signs in")
	}
	p = b.get(p.button("Continue with SSO"))
	if p.status != http.StatusOK || !strings.Contains(p.body, "carol@example.com") {
		t.Errorf("got %d %q", p.status, p.problem())
	}
	b.post("/logout", p.form("/logout").values)
	for _, path := range f.asked {
		if path != "/authorize" {
			t.Errorf("the proxy was believed at %s", path)
		}
	}
	f.user = ""
	p = b.get("/account")
	if p = b.get(p.button("Continue with SSO")); p.status != http.StatusForbidden || p.problem() != "login_failed" {
		t.Errorf("without the word of the proxy: %d %q", p.status, p.problem())
	}
}

func TestAProxyBesideLocalUsers(t *testing.T) {
	f := &front{}
	s := newVouchedSite(t, f, func(cfg *authserver.Config) { cfg.Password = newUsers() })
	b := s.browser()
	p := b.loginPage()
	if strings.Contains(p.body, "Continue with") {
		t.Error("a button leads back to this page")
	}
	if p = p.signIn("alice", password); !strings.Contains(p.body, "alice@example.com") {
		t.Errorf("got %d %q", p.status, p.problem())
	}
}

func TestUsersOfAProxyThatAreNotAllowed(t *testing.T) {
	f := &front{user: "carol"}
	s := newVouchedSite(t, f, func(cfg *authserver.Config) { cfg.Allow = &policy.Allow{Emails: []string{"dave@example.com"}} })
	b := s.browser()
	p := b.get("/authorize?" + authorization(s.register()).Encode())
	if p.problem() != "access_denied" || b.cookie("__Host-mcp_session") != "" {
		t.Errorf("got %d %q", p.status, p.problem())
	}
}
