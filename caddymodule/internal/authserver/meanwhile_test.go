package authserver_test

import (
	"context"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// slow is a store in which something happens before the next record of a folder is
// written.
type slow struct {
	store.Store
	folder    string
	meanwhile func()
}

func (s *slow) wait(key string) {
	if happens := s.meanwhile; happens != nil && strings.Contains(key, s.folder) {
		s.meanwhile = nil
		happens()
	}
}

func (s *slow) Put(ctx context.Context, key string, r store.Record) error {
	s.wait(key)
	return s.Store.Put(ctx, key, r)
}

func (s *slow) Update(ctx context.Context, key string, fn func(store.Record) (store.Record, error)) error {
	s.wait(key)
	return s.Store.Update(ctx, key, fn)
}

// newSlowSite is a site over such a store.
func newSlowSite(t *testing.T, folder string) (*site, *slow) {
	between := &slow{Store: memstore.New(0), folder: folder}
	s := newSite(t)
	s.store = storetest.NewFaulty(between)
	s.reopen()
	return s, between
}

// Whoever sets a second factor up ends the sessions that there are, and one that is
// just being made of the password alone is no exception.
func TestASessionThatIsMadeWhileASecondFactorIsSetUp(t *testing.T) {
	s, between := newSlowSite(t, "/session/")
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

// An app that is removed while a request of it is answered from memory is removed.
func TestAnAppThatIsRemovedWhileItIsRemembered(t *testing.T) {
	s, between := newSlowSite(t, "/grant/")
	v := authorization(webID, "redirect_uri", webURI)
	b, _ := s.connected(v)
	b.asked(v)
	between.meanwhile = func() {
		p := b.get("/account")
		b.post("/account/revoke", p.form("/account/revoke").values)
	}
	p := b.get("/authorize?" + v.Encode())
	if between.meanwhile != nil || !p.has("/authorize") {
		t.Fatalf("the user is not asked: %d to %s", p.status, p.header.Get("Location"))
	}
	if code := p.submit("decision", "allow").handedOff().Get("code"); code == "" {
		t.Error("the user cannot allow it")
	}
	if len(b.get("/account").apps()) != 0 {
		t.Error("the app is connected")
	}
}
