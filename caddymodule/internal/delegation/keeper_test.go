package delegation_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/delegation"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

const (
	alice    = "aaaaaaaaaaaaaaaa"
	bob      = "bbbbbbbbbbbbbbbb"
	lifetime = 30 * 24 * time.Hour
)

func derive(label string) []byte {
	sum := sha256.Sum256([]byte(label))
	return sum[:]
}

// provider gives tokens that are good for an hour, and a new refresh token with
// each, which the one before is used up by.
type provider struct {
	login.Redirect
	mu    sync.Mutex
	good  string // the refresh token that counts
	count int
	fault error
	takes time.Duration
	keeps bool // one refresh token is good for ever
	stamp string
}

func (p *provider) Recognizes(id login.Identity) bool {
	return id.Provider == "acme" && id.Stamp == p.stamp
}

func (p *provider) Renew(ctx context.Context, subject, refresh string) (login.Tokens, error) {
	if subject != "acme:42" {
		return login.Tokens{}, errors.New("these are not the tokens of " + subject)
	}
	select {
	case <-ctx.Done():
		return login.Tokens{}, fmt.Errorf("%w: %w", login.ErrUnreachable, ctx.Err())
	case <-time.After(p.takes):
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
	switch {
	case p.fault != nil:
		return login.Tokens{}, p.fault
	case refresh != p.good:
		return login.Tokens{}, login.ErrDenied
	case p.keeps:
		return login.Tokens{Access: fmt.Sprint("at", p.count), Expires: time.Now().Add(time.Hour)}, nil
	}
	p.good = fmt.Sprint("rt", p.count)
	return login.Tokens{Access: fmt.Sprint("at", p.count), Refresh: p.good, Expires: time.Now().Add(time.Hour)}, nil
}

func (p *provider) set(fault error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = fault
}

// env is a store with the keepers of some nodes.
type env struct {
	t     *testing.T
	store *storetest.Faulty
	idp   *provider
}

func newEnv(t *testing.T) *env {
	t.Helper()
	e := &env{t: t, store: storetest.NewFaulty(memstore.New(0)), idp: &provider{good: "rt0"}}
	t.Cleanup(func() { _ = e.store.Close() })
	return e
}

func (e *env) node() *delegation.Keeper {
	e.t.Helper()
	k, err := delegation.NewKeeper(e.store, "test/", derive)
	if err != nil {
		e.t.Fatal(err)
	}
	return k
}

// signIn keeps what the provider has given for alice.
func (e *env) signIn(k *delegation.Keeper) {
	e.t.Helper()
	e.keep(k, login.Tokens{Access: "at0", Refresh: "rt0", Expires: time.Now().Add(time.Hour)}, 12*time.Hour)
}

func (e *env) keep(k *delegation.Keeper, t login.Tokens, lifetime time.Duration) {
	e.t.Helper()
	id := login.Identity{Subject: "acme:42", Provider: "acme", Stamp: e.idp.stamp, Tokens: &t}
	if err := k.Keep(e.t.Context(), alice, id, lifetime); err != nil {
		e.t.Fatal(err)
	}
}

func (e *env) token(k *delegation.Keeper) (string, error) {
	return k.Token(e.t.Context(), alice, delegation.Source{Provider: e.idp, Lifetime: lifetime})
}

func (e *env) want(k *delegation.Keeper, what, access string, fault error) {
	e.t.Helper()
	got, err := e.token(k)
	if got != access || !errors.Is(err, fault) {
		e.t.Errorf("%s: got %q, %v; want %q, %v", what, got, err, access, fault)
	}
}

func TestTokensAreKeptAndRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		k := e.node()
		e.want(k, "before any sign-in", "", delegation.ErrNone)
		e.signIn(k)
		e.want(k, "after the sign-in", "at0", nil)
		if got, err := k.Token(t.Context(), bob, delegation.Source{Provider: e.idp, Lifetime: lifetime}); got != "" || !errors.Is(err, delegation.ErrNone) {
			t.Errorf("somebody else gets %q, %v", got, err)
		}
		time.Sleep(59 * time.Minute)
		e.want(k, "in its last minute", "at0", nil)
		time.Sleep(31 * time.Second)
		e.want(k, "30 seconds before its end", "at1", nil)
		e.want(e.node(), "on a node that has just started", "at1", nil)
		for range 100 {
			time.Sleep(time.Hour)
			if got, err := e.token(k); err != nil {
				t.Fatalf("got %q, %v", got, err)
			}
		}
		if e.idp.count != 101 {
			t.Errorf("renewed %d times in 101 hours", e.idp.count)
		}
	})
}

func TestARefreshTokenThatStaysIsUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		e.idp.keeps = true
		k := e.node()
		e.signIn(k)
		for i := range 3 {
			time.Sleep(time.Hour)
			e.want(k, "after an hour", fmt.Sprint("at", i+1), nil)
		}
	})
}

func TestWhatIsUnusedIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		k := e.node()
		e.signIn(k)
		time.Sleep(12 * time.Hour)
		e.want(k, "after twelve hours without any use", "", delegation.ErrNone)
		e.signIn(k)
		e.want(k, "the first use", "at0", nil)
		time.Sleep(lifetime - time.Minute)
		e.want(k, "a month after the last use", "at1", nil)
		if err := k.Shorten(t.Context(), alice, time.Hour); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		e.want(k, "an hour after there was no use for it any more", "", delegation.ErrNone)
		if err := k.Shorten(t.Context(), alice, time.Hour); err != nil {
			t.Error(err)
		}
		e.signIn(k)
		e.want(k, "once more", "at0", nil)
		if err := k.Forget(t.Context(), alice); err != nil {
			t.Fatal(err)
		}
		e.want(k, "after it was forgotten", "", delegation.ErrNone)
	})
}

func TestARefreshTokenThatIsRefusedEndsTheTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		k := e.node()
		e.signIn(k)
		e.idp.good = "another"
		e.want(k, "while it is good", "at0", nil)
		time.Sleep(time.Hour)
		e.want(k, "when it has to be renewed", "", delegation.ErrNone)
		e.want(k, "and again", "", delegation.ErrNone)
		if e.idp.count != 1 {
			t.Errorf("the provider was asked %d times", e.idp.count)
		}
		e.idp.good = "rt0"
		e.signIn(k)
		e.want(k, "after another sign-in", "at0", nil)
	})
}

func TestWithoutARefreshTokenTheAccessTokenIsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		k := e.node()
		e.keep(k, login.Tokens{Access: "at0", Expires: time.Now().Add(time.Hour)}, lifetime)
		e.want(k, "at first", "at0", nil)
		k.Doubt(alice, "at0")
		e.want(k, "when an upstream has refused it", "at0", nil)
		time.Sleep(time.Hour)
		e.want(k, "at its end", "", delegation.ErrNone)
		e.keep(k, login.Tokens{Access: "endless"}, lifetime)
		e.want(k, "one without an end", "endless", nil)
		k.Doubt(alice, "endless")
		e.want(k, "when an upstream has refused one without an end", "", delegation.ErrNone)
	})
}

func TestAnOutageOfTheProviderIsNoEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		k := e.node()
		e.signIn(k)
		e.idp.set(login.ErrUnreachable)
		e.want(k, "while the token is good", "at0", nil)
		time.Sleep(time.Hour)
		for range 10 {
			e.want(k, "while the provider is down", "", delegation.ErrUnavailable)
		}
		if e.idp.count != 1 {
			t.Errorf("the provider was asked %d times at once", e.idp.count)
		}
		e.idp.set(nil)
		time.Sleep(3 * time.Second)
		e.want(k, "when it is back", "at2", nil)
	})
}

func TestAnUpstreamThatRefusesATokenHasItRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		k := e.node()
		e.signIn(k)
		e.want(k, "at first", "at0", nil)
		k.Doubt(alice, "at0")
		e.want(k, "after a refusal", "at1", nil)
		k.Doubt(alice, "at1")
		e.want(k, "after another one at once", "at1", nil)
		time.Sleep(time.Minute + time.Second)
		k.Doubt(alice, "at1")
		e.want(k, "after another one a minute later", "at2", nil)
	})
}

// Requests at once, on several nodes, use a refresh token once. The provider would
// take a second use for a theft.
// Whoever has waited for the lease of another node has all of its own time.
// A clock that is behind does not make the lease of another node void.
// leasedFor makes a lease of another node.
// slow is a store whose updates take long to be acknowledged.
// A node to which the store has answered late has no more time for the provider than
// its lease, and does not give away that of the next node.
func TestFaultsOfTheStoreAreNoEnd(t *testing.T) {
	for _, when := range []storetest.Moment{storetest.Before, storetest.After} {
		synctest.Test(t, func(t *testing.T) {
			e := newEnv(t)
			k := e.node()
			e.signIn(k)
			time.Sleep(time.Hour)
			e.store.FailMethods(when)
			e.want(k, "while the store is down", "", delegation.ErrUnavailable)
			e.store.Heal()
			time.Sleep(20 * time.Second)
			if got, err := e.token(k); got == "" || err != nil {
				t.Errorf("when it is back: %q, %v", got, err)
			}
		})
	}
}

// A store that comes back before all who wait have given up loses no refresh token:
// the one of before is used up.
// Tokens go neither to upstreams nor to a provider when the login is another
// provider's by now, whoever has the same subject there.
func TestTokensOfAnotherProviderAreNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		k := e.node()
		e.signIn(k)
		e.want(k, "from the provider of the sign-in", "at0", nil)
		e.idp.stamp = "other"
		e.want(k, "from another provider", "", delegation.ErrNone)
		e.want(e.node(), "on another node", "", delegation.ErrNone)
		time.Sleep(time.Hour)
		e.want(k, "when they have to be renewed", "", delegation.ErrNone)
		if e.idp.count != 0 {
			t.Error("the refresh token has gone to another provider")
		}
		e.signIn(k)
		e.want(k, "after a sign-in at the other provider", "at0", nil)
	})
}

func TestTokensAreSealed(t *testing.T) {
	e := newEnv(t)
	k := e.node()
	e.signIn(k)
	for key, err := range e.store.Keys(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		r, err := e.store.Get(t.Context(), key)
		if err != nil || strings.Contains(string(r.Value), "at0") || strings.Contains(string(r.Value), "rt0") {
			t.Errorf("%s holds %s, %v", key, r.Value, err)
		}
		if err := delegation.CheckRecord(strings.TrimPrefix(key, "test/delegation/"), r.Value); err != nil {
			t.Error(err)
		}
		// Nobody can give one person the tokens of another.
		if err := e.store.Put(t.Context(), "test/delegation/"+bob, store.Record{Value: r.Value}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := k.Token(t.Context(), bob, delegation.Source{Provider: e.idp, Lifetime: lifetime}); got != "" || !errors.Is(err, delegation.ErrNone) {
		t.Errorf("with the record of another person: %q, %v", got, err)
	}
}

// A sign-in mends a record that is damaged; one of a newer version is for newer nodes.
func TestDamagedRecordsAreNone(t *testing.T) {
	for value, want := range map[string]error{
		`{`:       delegation.ErrNone,
		`{"v":1}`: delegation.ErrNone,
		`{"v":1,"tokens":{"sealed":1,"key":"00000000","data":"AAAA"}}`: delegation.ErrNone,
		`{"v":2}`: delegation.ErrUnavailable,
	} {
		e := newEnv(t)
		k := e.node()
		if err := e.store.Put(t.Context(), "test/delegation/"+alice, store.Record{Value: []byte(value)}); err != nil {
			t.Fatal(err)
		}
		e.want(k, value, "", want)
		e.signIn(k)
		e.want(k, "after a sign-in", "at0", nil)
	}
}
