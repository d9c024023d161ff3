package grant_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// by returns a consent for another client.
func by(clientID, subject, request string) grant.Consent {
	c := of(subject, request)
	c.ClientID = clientID
	return c
}

// active are the ids of all grants.
func (e *env) active(t *testing.T) (ids []string) {
	t.Helper()
	for g, err := range e.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, g.ID)
	}
	slices.Sort(ids)
	return ids
}

func TestAllAndFindHaveActiveGrantsOnly(t *testing.T) {
	e := newEnv(t)
	first, _ := e.connect(t, by("a", "alice", "request1"))
	second, _ := e.connect(t, by("b", "bob", "request2"))
	revoked, _ := e.connect(t, by("a", "bob", "request3"))
	if err := e.Revoke(t.Context(), revoked.ID); err != nil {
		t.Fatal(err)
	}
	e.allow(t, by("a", "alice", "request4"))
	if err := e.Deny(t.Context(), by("a", "alice", "request5")); err != nil {
		t.Fatal(err)
	}
	if err := e.store.Put(t.Context(), "test/grant/x", store.Record{Value: []byte("{")}); err != nil {
		t.Fatal(err)
	}
	want := []string{first.ID, second.ID}
	slices.Sort(want)
	if got := e.active(t); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for id, known := range map[string]bool{first.ID: true, revoked.ID: false, "": false, strings.Repeat("0", len(first.ID)): false} {
		g, err := e.Find(t.Context(), id)
		if known && (err != nil || g.ID != id) || !known && !errors.Is(err, store.ErrNotFound) {
			t.Errorf("finding %q: %+v, %v", id, g, err)
		}
	}
	e.store.FailMethods(storetest.Before)
	var last error
	for _, last = range e.All(t.Context()) {
	}
	if _, err := e.Find(t.Context(), first.ID); !errors.Is(last, storetest.ErrInjected) || !errors.Is(err, storetest.ErrInjected) {
		t.Errorf("with a store that fails: %v and %v", last, err)
	}
}

func TestRevokeClientEndsAllOfOneClient(t *testing.T) {
	e := newEnv(t)
	_, token := e.connect(t, by("client1", "alice", "request1"))
	ofBob, _ := e.connect(t, by("client1", "bob", "request2"))
	other, _ := e.connect(t, by("client2", "bob", "request3"))
	code := e.allow(t, by("client1", "carol", "request4"))
	n, err := e.RevokeClient(t.Context(), "client1")
	if err != nil || n != 2 {
		t.Errorf("%d ended, %v", n, err)
	}
	if got := e.active(t); !slices.Equal(got, []string{other.ID}) {
		t.Errorf("got %v", got)
	}
	if !e.revoker.has(ofBob.ID) || e.revoker.has(other.ID) {
		t.Error("the wrong access tokens have ended")
	}
	_, _, err = e.Refresh(t.Context(), renewal(token))
	wantCode(t, err, "invalid_grant")
	_, _, err = e.Redeem(t.Context(), redemption(code))
	wantCode(t, err, "invalid_grant")
	if n, err := e.RevokeClient(t.Context(), "client1"); err != nil || n != 0 {
		t.Errorf("once more: %d ended, %v", n, err)
	}
	// A record that nobody can read may be one of them.
	if err := e.store.Put(t.Context(), "test/grant/x", store.Record{Value: []byte("{")}); err != nil {
		t.Fatal(err)
	}
	if n, err := e.RevokeClient(t.Context(), "client2"); err == nil || n != 1 {
		t.Errorf("beside a damaged record: %d ended, %v", n, err)
	}
}
