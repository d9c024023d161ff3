package authserver_test

import (
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// updates counts what has been written.
func (s *site) updates() int {
	n := 0
	for _, c := range s.store.Calls() {
		if c.Method == storetest.Update {
			n++
		}
	}
	return n
}

// TestAClientThatRefreshesFirstIsMadeToAsk does what the first TypeScript SDK does
// when a call is refused for its scopes: it refreshes, throws its tokens away at
// invalid_grant, and asks for the scopes of the challenge.
func TestAClientThatRefreshesFirstIsMadeToAsk(t *testing.T) {
	s := newSite(t)
	id := s.register()
	a := s.tokens(id)
	claims, err := s.verifier.Verify(t.Context(), a.text("access_token"))
	if err != nil {
		t.Fatal(err)
	}
	before := s.updates()
	for range 10 {
		s.StepUp(t.Context(), claims.GrantID, oauth.Scopes{"bugs:write"})
	}
	if n := s.updates() - before; n != 1 {
		t.Errorf("ten refused calls are %d writes, want one", n)
	}
	s.token(renewal(id, a.text("refresh_token"))).refused(t, 400, "invalid_grant")
	b := s.browser()
	more := s.issued(redemption(id, b.code(authorization(id, "scope", "mcp bugs:write"))))
	if got := more.text("scope"); got != "mcp bugs:write" {
		t.Errorf("the new token has %q", got)
	}
	// Who does not want to allow it goes on with what was allowed before.
	s.issued(renewal(id, a.text("refresh_token")))
	if _, err := s.verifier.Verify(t.Context(), a.text("access_token")); err != nil {
		t.Errorf("the access token of before: %v", err)
	}
}

// When the store fails the call is refused all the same, and the next one tries
// again.
func TestAStepUpSurvivesTheStore(t *testing.T) {
	s := newSite(t)
	id := s.register()
	a := s.tokens(id)
	claims, err := s.verifier.Verify(t.Context(), a.text("access_token"))
	if err != nil {
		t.Fatal(err)
	}
	s.store.FailMethods(storetest.Before, storetest.Update)
	s.StepUp(t.Context(), claims.GrantID, oauth.Scopes{"bugs:write"})
	s.store.Heal()
	s.StepUp(t.Context(), claims.GrantID, oauth.Scopes{"bugs:write"})
	s.token(renewal(id, a.text("refresh_token"))).refused(t, 400, "invalid_grant")
}
