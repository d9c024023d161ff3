package authserver_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// writersOnly lets some callers have bugs:write, which implies mcp.
func writersOnly(allow *policy.Allow) func(*authserver.Config) {
	return func(cfg *authserver.Config) {
		cfg.Scopes = slices.Clone(cfg.Scopes)
		cfg.Scopes[1].Implies, cfg.Scopes[1].Allow = []string{"mcp"}, allow
	}
}

func TestAScopeThatTheUserMayNotHaveIsNeitherShownNorGiven(t *testing.T) {
	s := newSite(t, writersOnly(&policy.Allow{Groups: []string{"writers"}}))
	id := s.register()
	for name, scope := range map[string]string{"asked for": "mcp bugs:write", "asked for alone": "bugs:write", "not asked for": "mcp"} {
		b := s.browser()
		p := b.consent(authorization(id, "scope", scope))
		if strings.Contains(p.body, "Change bugs") || len(p.boxes()) > 0 || !strings.Contains(p.body, "Read bugs") {
			t.Errorf("%s: the page offers %v", name, p.boxes())
		}
		code := p.submit("decision", "allow", "scope", "bugs:write").handedOff().Get("code")
		if got := s.issued(redemption(id, code)).text("scope"); got != "mcp" {
			t.Errorf("%s: the token has %q", name, got)
		}
	}
}

func TestAScopeIsForThoseWhomItsRuleAdmits(t *testing.T) {
	for name, allow := range map[string]*policy.Allow{
		"by user": {Users: []string{"alice"}}, "by address": {Emails: []string{"alice@example.com"}}, "by domain": {Domains: []string{"example.com"}},
	} {
		s := newSite(t, writersOnly(allow))
		id := s.register()
		code := s.browser().code(authorization(id, "scope", "mcp bugs:write"))
		if got := s.issued(redemption(id, code)).text("scope"); got != "mcp bugs:write" {
			t.Errorf("%s: the token has %q", name, got)
		}
	}
	s := newSite(t, writersOnly(&policy.Allow{Clients: []string{webID}}))
	request := authorization(s.register(), "scope", "mcp bugs:write")
	if p := s.browser().consent(request); strings.Contains(p.body, "Change bugs") {
		t.Error("another client is offered the scope")
	}
	p := s.browser().consent(with(request, "client_id", webID, "redirect_uri", "https://app.example.net/cb"))
	if !strings.Contains(p.body, "Change bugs") {
		t.Error("the client is not offered the scope")
	}
}

// What a scope implies is part of what the user agrees to, and nothing to choose
// beside it.
func TestThePageShowsWhatAScopeImplies(t *testing.T) {
	s := newSite(t, func(cfg *authserver.Config) {
		cfg.Scopes = slices.Clone(cfg.Scopes)
		cfg.Scopes[0].Implies = []string{"bugs:write"}
	})
	p := s.browser().consent(authorization(s.register()))
	if !strings.Contains(p.body, "Read bugs") || !strings.Contains(p.body, "Change bugs") || len(p.boxes()) > 0 {
		t.Errorf("the page offers %v:\n%s", p.boxes(), p.body)
	}
}

func TestAUserWhoMayHaveNothingIsTurnedAway(t *testing.T) {
	s := newSite(t, func(cfg *authserver.Config) {
		cfg.Scopes = slices.Clone(cfg.Scopes)
		cfg.Scopes[0].Allow = &policy.Allow{Users: []string{"bob"}}
	})
	b := s.browser()
	p := b.get("/authorize?"+authorization(s.register()).Encode()).signIn("alice", password)
	if p.status != http.StatusForbidden || p.has("/authorize") {
		t.Errorf("got %d:\n%s", p.status, p.body)
	}
}

// A scope ends at the next refresh when the user is not admitted to it any more,
// and the grant with the last one.
func TestARefreshGivesWhatTheUserMayHaveThen(t *testing.T) {
	s := newSite(t, func(cfg *authserver.Config) {
		cfg.Scopes = slices.Clone(cfg.Scopes)
		cfg.Scopes[0].Allow = &policy.Allow{Groups: []string{"readers"}}
		cfg.Scopes[1].Allow = &policy.Allow{Groups: []string{"writers"}}
	})
	groups := func(names ...string) {
		s.users.change(func(known map[string]login.Identity) {
			alice := known["alice"]
			alice.Groups = names
			known["alice"] = alice
		})
	}
	groups("readers", "writers")
	id := s.register()
	code := s.browser().code(authorization(id, "scope", "mcp bugs:write"))
	a := s.issued(redemption(id, code))
	if got := a.text("scope"); got != "mcp bugs:write" {
		t.Fatalf("the token has %q", got)
	}
	groups("readers")
	a = s.issued(renewal(id, a.text("refresh_token")))
	if got := a.text("scope"); got != "mcp" {
		t.Errorf("the renewed token has %q", got)
	}
	s.token(renewal(id, a.text("refresh_token"), "scope", "bugs:write")).refused(t, 400, "invalid_scope")
	groups()
	s.token(renewal(id, a.text("refresh_token"))).refused(t, 400, "invalid_grant")
	groups("readers", "writers")
	if got := s.issued(renewal(id, a.text("refresh_token"))).text("scope"); got != "mcp bugs:write" {
		t.Errorf("after all the token has %q; a refused refresh uses nothing up", got)
	}
}

func TestAServiceAccountGetsTheScopesOfItsRule(t *testing.T) {
	for _, tt := range []struct {
		allow       *policy.Allow
		both, alone string
	}{
		{&policy.Allow{Clients: []string{"rob*"}}, "mcp bugs:write", "bugs:write"},
		{&policy.Allow{Clients: []string{webID}}, "mcp", "mcp"},
		{&policy.Allow{Users: []string{"*"}}, "mcp", "mcp"}, // it is no user
	} {
		s := newSite(t, writersOnly(tt.allow))
		for scope, want := range map[string]string{"mcp bugs:write": tt.both, "bugs:write": tt.alone} {
			ask := url.Values{"grant_type": {"client_credentials"}, "scope": {scope}}
			if got := s.issued(ask, robotID, "robot-secret").text("scope"); got != want {
				t.Errorf("%+v: asked for %q, the token has %q", tt.allow, scope, got)
			}
		}
	}
}

// A known website that asks for more than it was allowed asks the user, who sees
// all of it.
func TestAStepUpShowsEverythingThatIsAskedFor(t *testing.T) {
	s, _, _ := newDocumentSite(t, nil)
	request := authorization(webID, "redirect_uri", webURI)
	b, _ := s.connected(request)
	p := b.get("/authorize?" + with(request, "scope", "mcp bugs:write").Encode())
	if !p.has("/authorize") || !strings.Contains(p.body, "Read bugs") || !strings.Contains(p.body, "Change bugs") || len(p.boxes()) > 0 {
		t.Errorf("no page with both scopes but %d:\n%s", p.status, p.body)
	}
}
