package authserver_test

import (
	"context"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// slow is a store in which something happens before the next session is written.
type slow struct {
	store.Store
	meanwhile func()
}

func (s *slow) Put(ctx context.Context, key string, r store.Record) error {
	if happens := s.meanwhile; happens != nil && strings.Contains(key, "/session/") {
		s.meanwhile = nil
		happens()
	}
	return s.Store.Put(ctx, key, r)
}

// Whoever sets a second factor up ends the sessions that there are, and one that is
// just being made of the password alone is no exception.
func TestASessionThatIsMadeWhileASecondFactorIsSetUp(t *testing.T) {
	between := &slow{Store: memstore.New(0)}
	s := newSite(t)
	s.store = storetest.NewFaulty(between)
	s.reopen()
	alice, _ := s.signedIn("alice")
	var a *app
	between.meanwhile = func() { a = alice.enrol() }
	b := s.browser()
	p := b.get("/account").signIn("alice", password)
	if a == nil || !p.has("/login/code") || b.cookie("__Host-mcp_session") != "" {
		t.Fatalf("the password alone: %d with session %q", p.status, b.cookie("__Host-mcp_session"))
	}
	sessions := 0
	for key := range s.keys() {
		if strings.Contains(key, "/session/") {
			sessions++
		}
	}
	if sessions != 1 {
		t.Errorf("there are %d sessions, want that of the browser with the second factor", sessions)
	}
	if p = p.send("/login/code", "code", a.code(0)); !p.has("/logout") {
		t.Errorf("with the code: %d", p.status)
	}
}
