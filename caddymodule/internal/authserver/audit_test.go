package authserver_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// events are the lines of the audit log so far, without those that were returned
// before.
func (s *site) events() []map[string]any {
	var out []map[string]any
	for _, entry := range s.logs.TakeAll() {
		if entry.LoggerName == "audit" {
			out = append(out, entry.ContextMap())
		}
	}
	return out
}

// told checks that there are these new events, each a few words that begin with
// the event, its outcome and who did it.
func (s *site) told(what string, want ...string) []map[string]any {
	s.t.Helper()
	all := s.events()
	var got []string
	for _, e := range all {
		line := fmt.Sprint(e["event"], " ", e["outcome"])
		for _, name := range []string{"by", "user"} {
			if e[name] != nil {
				line += fmt.Sprint(" ", e[name])
			}
		}
		got = append(got, line)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
	return all
}

func TestTheLifeOfAGrantInTheAuditLog(t *testing.T) {
	s := newSite(t)
	id := s.register()
	s.told("a registration", "client.register success client")
	b := s.browser()
	p := b.get("/authorize?" + authorization(id).Encode())
	s.told("a request")
	p = p.signIn("nobody", "x")
	s.told("an unknown user", "login refused")
	p = p.signIn("alice", "wrong")
	s.told("a wrong password", "login refused alice")
	p = p.signIn("alice", password)
	s.told("the right one", "login success alice")
	code := p.submit("decision", "allow").handedOff().Get("code")
	allowed := s.told("consent", "authorization success user alice")[0]

	first := s.issued(redemption(id, code))
	issued := s.told("tokens", "token.issue success alice")[0]
	second := s.issued(renewal(id, first.text("refresh_token")))
	s.issued(renewal(id, second.text("refresh_token")))
	s.told("more tokens", "token.issue success alice", "token.issue success alice")
	s.token(renewal(id, first.text("refresh_token"))).refused(t, 400, "invalid_grant")
	reused := s.told("a reuse", "token.reuse refused server alice")[0]
	s.token(renewal(id, second.text("refresh_token"))).refused(t, 400, "invalid_grant")
	s.told("afterwards", "token.issue refused")
	for _, e := range []map[string]any{allowed, issued, reused} {
		if e["grant_id"] == "" || e["grant_id"] != issued["grant_id"] || e["client_id"] != id || e["ip"] == nil {
			t.Errorf("the line is %v", e)
		}
	}
	want := map[string]any{
		"event": "token.issue", "outcome": "success", "user": "alice", "provider": "local", "client_id": id, "scopes": "mcp", "resource": resource,
		"grant_type": "authorization_code", "token": audit.Fingerprint(first.text("access_token")),
		"grant_id": issued["grant_id"], "ip": issued["ip"], "issuer": issuer,
	}
	if diff := cmp.Diff(want, issued); diff != "" {
		t.Errorf("a token that is issued (-want +got):\n%s", diff)
	}
	if allowed["redirect_host"] != "127.0.0.1:6276" || allowed["scopes"] != "mcp" || allowed["resource"] != resource {
		t.Errorf("consent is %v", allowed)
	}
	if reason, _ := reused["reason"].(string); !strings.HasPrefix(reason, "invalid_grant: ") {
		t.Errorf("the reuse is %v", reused)
	}
}

func TestEndsInTheAuditLog(t *testing.T) {
	s := newSite(t)
	id := s.register()
	b := s.browser()
	byRefresh := s.issued(redemption(id, b.code(authorization(id))))
	s.events()
	s.revoke(id, byRefresh.text("refresh_token"))
	s.told("by a refresh token", "grant.revoke success client alice")
	s.revoke(id, byRefresh.text("refresh_token"))
	s.revoke(id, "junk")
	s.told("once more, and junk")
	byAccess := s.issued(redemption(id, b.code(authorization(id))))
	s.events()
	s.revoke(id, byAccess.text("access_token"))
	s.told("by an access token", "grant.revoke success client alice")
	s.revoke("mcp_unknown", "x")
	s.told("by nobody", "grant.revoke refused")

	s.issued(redemption(id, b.code(authorization(id))))
	s.events()
	account := b.get("/account")
	b.post("/account/revoke", account.form("/account/revoke").values)
	s.told("by the user", "grant.revoke success user alice")
	b.post("/logout", b.get("/account").form("/logout").values)
	s.told("signed out", "logout success user alice")
}

func TestOperatorsInTheAuditLog(t *testing.T) {
	s := newSite(t)
	id := s.register()
	s.tokens(id)
	s.events()
	grants, _, err := s.Grants(t.Context(), authserver.GrantFilter{User: "alice"}, 10)
	if err != nil || len(grants) != 1 {
		t.Fatal(grants, err)
	}
	if _, _, err := s.RevokeGrant(t.Context(), grants[0].ID); err != nil {
		t.Fatal(err)
	}
	s.told("a grant is revoked", "grant.revoke success operator alice")
	s.tokens(id)
	s.events()
	if _, _, err := s.SignOut(t.Context(), "alice", true); err != nil {
		t.Fatal(err)
	}
	s.told("a user is signed out", "logout success operator alice", "grant.revoke success operator alice")
	if _, err := s.RemoveClient(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	s.told("a client is removed", "client.remove success operator")
}

func TestRefusalsInTheAuditLog(t *testing.T) {
	s := newSite(t, asking, func(c *authserver.Config) { c.Allow = &policy.Allow{Users: []string{"alice"}} })
	id := s.register()
	s.events()
	b := s.browser()
	for _, c := range []struct {
		rule string
		do   func()
		want []string
	}{
		{"a wrong secret", func() { s.token(url.Values{"grant_type": {"client_credentials"}}, robotID, "guess") }, []string{"token.issue refused"}},
		{"an unknown client", func() { s.token(redemption("nobody", "x")) }, []string{"token.issue refused"}},
		{"a code that is none", func() { s.token(redemption(id, "x")) }, []string{"token.issue refused"}},
		{"no grant type", func() { s.token(url.Values{}) }, []string{"token.issue refused"}},
		{"a registration", func() { s.program(request(http.MethodPost, "/register", "{")) }, []string{"client.register refused"}},
		{"whoever may not ask", func() { s.introspect("x", "client_id", robotID, "client_secret", "robot-secret") }, []string{"token.introspect refused"}},
		{"a client that may ask", func() { s.introspect("x") }, nil},
		{"a page", func() { b.get("/authorize?" + authorization(id, "redirect_uri", "https://evil.example/").Encode()) }, []string{"page.refuse refused"}},
		{"at the client", func() { b.get("/authorize?" + authorization(id, "code_challenge", "-").Encode()) }, []string{"authorization refused server"}},
		{"by the user", func() { b.consent(authorization(id)).submit("decision", "deny") }, []string{"login success alice", "authorization refused user alice"}},
		{"who is not allowed in", func() { s.browser().get("/account").signIn("bob", password) }, []string{"login refused bob"}},
		{"a form of another site", func() {
			r := request(http.MethodPost, "/login", url.Values{})
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			s.serve(r)
		}, []string{"page.refuse refused"}},
		{"what is no refusal", func() {
			s.serve(request(http.MethodGet, "/jwks", nil))
			s.serve(request(http.MethodOptions, "/token", nil))
			s.serve(request(http.MethodGet, oauth.WellKnownServer, nil))
		}, nil},
		{"a fault of the store", func() {
			s.store.FailMethods(storetest.Before)
			s.token(redemption(id, "x"))
			s.store.Heal()
		}, nil},
	} {
		c.do()
		for _, e := range s.told(c.rule, c.want...) {
			if e["outcome"] == "refused" && (e["reason"] == nil || e["reason"] == "") {
				t.Errorf("%s: there is no reason: %v", c.rule, e)
			}
		}
	}
}

// What is presented as a client id may be something else, and so may a user name.
func TestOnlyKnownNamesAreInTheAuditLog(t *testing.T) {
	s := newSite(t)
	s.token(url.Values{"grant_type": {"client_credentials"}}, "a-secret-in-the-wrong-place", "")
	s.token(redemption("mcp_AAAAAAAAAAAAAAAAAAAAAAAAAA", "x"))
	s.browser().get("/account").signIn("a-secret-in-the-wrong-place", "x")
	all := s.told("wrong places", "token.issue refused", "token.issue refused", "login refused")
	if strings.Contains(fmt.Sprint(all), "wrong-place") {
		t.Errorf("the lines are %v", all)
	}
	if all[1]["client_id"] != "mcp_AAAAAAAAAAAAAAAAAAAAAAAAAA" {
		t.Errorf("a client that is gone: %v", all[1])
	}
}
