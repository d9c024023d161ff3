package grant_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

const (
	verifier    = "verifier-verifier-verifier-verifier-verifier"
	wrong       = "wrong-wrong-wrong-wrong-wrong-wrong-wrong-wrong"
	redirectURI = "http://localhost:33418/callback"
	resource    = "https://mcp.example.com/mcp"

	codeLifetime    = time.Minute
	refreshLifetime = 30 * 24 * time.Hour
	refreshGrace    = 2 * time.Minute
)

var config = grant.Config{CodeLifetime: codeLifetime, RefreshLifetime: refreshLifetime, RefreshGrace: refreshGrace}

// revoker remembers whose access tokens were ended.
type revoker struct {
	mu  sync.Mutex
	ids []string
}

func (r *revoker) Add(_ context.Context, grantID string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids = append(r.ids, grantID)
	return nil
}

func (r *revoker) has(grantID string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.ids, grantID)
}

// env is a service on a store that counts and can fail.
type env struct {
	*grant.Service
	store   *storetest.Faulty
	revoker *revoker
}

func newEnv(t testing.TB) *env {
	s := storetest.NewFaulty(memstore.New(0))
	t.Cleanup(func() { _ = s.Close() })
	e := &env{store: s, revoker: &revoker{}}
	e.Service = grant.NewService(s, "test/", derive("server"), config, e.revoker)
	return e
}

// derive gives the symmetric keys of a server.
func derive(server string) func(string) []byte {
	return func(label string) []byte {
		sum := sha256.Sum256([]byte(server + "\x00" + label))
		return sum[:]
	}
}

func consent(request string) grant.Consent {
	return grant.Consent{
		Request: request, User: login.Identity{Subject: "alice", Name: "Alice", Provider: "local"},
		ClientID: "client1", Resource: resource, Scopes: oauth.Scopes{"mcp", "admin"}, RedirectURI: redirectURI,
		Challenge: oauth.S256(verifier), ChallengeMethod: oauth.ChallengeS256,
	}
}

func redemption(code string) grant.Redemption {
	return grant.Redemption{Code: code, ClientID: "client1", RedirectURI: redirectURI, Verifier: verifier, Resource: resource}
}

func renewal(token string) grant.Renewal {
	return grant.Renewal{Token: token, ClientID: "client1", Resource: resource}
}

func (e *env) allow(t testing.TB, c grant.Consent) string {
	t.Helper()
	code, err := e.Allow(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// connect goes all the way to the first refresh token.
func (e *env) connect(t testing.TB, c grant.Consent) (*grant.Grant, string) {
	t.Helper()
	r := redemption(e.allow(t, c))
	r.ClientID, r.Resource = c.ClientID, c.Resource
	g, refresh, err := e.Redeem(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return g, refresh
}

func (e *env) refresh(t testing.TB, token string) (*grant.Grant, string) {
	t.Helper()
	g, next, err := e.Refresh(t.Context(), renewal(token))
	if err != nil {
		t.Fatal(err)
	}
	return g, next
}

// snapshot is all that the store holds.
func snapshot(t testing.TB, s store.Store) map[string]store.Record {
	t.Helper()
	all := map[string]store.Record{}
	for key, err := range s.Keys(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		all[key] = r
	}
	return all
}

// record is the stored form of the only grant there is.
func (e *env) record(t testing.TB) (key string, r store.Record) {
	t.Helper()
	all := snapshot(t, e.store.Inner())
	if len(all) != 1 {
		t.Fatalf("the store holds %d records, want one", len(all))
	}
	for key, r = range all {
	}
	return key, r
}

// stored is the only grant there is.
func (e *env) stored(t testing.TB) *grant.Grant {
	t.Helper()
	_, r := e.record(t)
	return parse(t, r)
}

func parse(t testing.TB, r store.Record) *grant.Grant {
	t.Helper()
	g := &grant.Grant{}
	if err := json.Unmarshal(r.Value, g); err != nil {
		t.Fatal(err)
	}
	return g
}

// unchanged runs do and checks that it leaves the only grant as it is.
func (e *env) unchanged(t testing.TB, do func()) {
	t.Helper()
	_, before := e.record(t)
	do()
	if _, after := e.record(t); !bytes.Equal(before.Value, after.Value) || !before.Expires.Equal(after.Expires) {
		t.Errorf("the grant has changed\nfrom %s\nto   %s", before.Value, after.Value)
	}
}

// wantCode demands a refusal with the code; "" demands success.
func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	refusal, ok := errors.AsType[*oauth.Error](err)
	switch {
	case code == "" && err != nil:
		t.Errorf("got %v, want success", err)
	case code != "" && !ok:
		t.Errorf("got %v, want %s", err, code)
	case code != "" && refusal.Code != code:
		t.Errorf("got %v, want %s", err, code)
	}
}

// wantRevoked demands that the grant and its access tokens have ended.
func (e *env) wantRevoked(t testing.TB, want bool) {
	t.Helper()
	g := e.stored(t)
	if got := !g.Revoked.IsZero(); got != want {
		t.Errorf("revoked: %v, want %v", got, want)
	}
	if got := e.revoker.has(g.ID); got != want {
		t.Errorf("access tokens ended: %v, want %v", got, want)
	}
}
