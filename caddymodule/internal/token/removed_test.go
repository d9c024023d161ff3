package token_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// mintFor makes a token of a client.
func (n *node) mintFor(t testing.TB, clientID, grantID string) string {
	t.Helper()
	claims := claimsOf(grantID)
	claims.ClientID = clientID
	raw, err := n.keys.Mint(claims, accessLifetime)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// claimsFor are the claims of a token that a client has got now.
func claimsFor(clientID string) *token.Claims {
	c := &token.Claims{AccessTokenClaims: claimsOf("grant")}
	c.ClientID, c.IssuedAt = clientID, time.Now().Unix()
	return c
}

// wantVerdict demands that a token is good, or refused with the error.
func (n *node) wantVerdict(t testing.TB, what, raw string, want error) {
	t.Helper()
	if _, err := n.verifier.Verify(t.Context(), raw); !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func TestARemovedClientTakesItsTokensAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		a, b := newNode(t, s), newNode(t, s)
		defer b.follow(t)()
		first, second, other := a.mintFor(t, "gone", "grant1"), a.mintFor(t, "gone", "grant2"), a.mintFor(t, "stays", "grant3")
		fresh := a.mintFor(t, "gone", "grant4")
		for _, n := range []*node{a, b} {
			for _, raw := range []string{first, second, other} {
				n.wantVerdict(t, "before", raw, nil)
			}
		}
		synctest.Wait()
		told := 0
		a.revocations.Notify(func(string) {}, func() { told++ })
		for range 2 {
			if err := a.revocations.AddClient(t.Context(), "gone", time.Time{}, accessLifetime); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if told != 1 {
			t.Errorf("told %d times, want once", told)
		}
		for name, n := range map[string]*node{"here": a, "on the other node": b, "after a restart": newNode(t, s)} {
			n.wantVerdict(t, name, first, token.ErrRevoked)
			n.wantVerdict(t, name+", once more", first, token.ErrRevoked)
			n.wantVerdict(t, name+", another grant", second, token.ErrRevoked)
			n.wantVerdict(t, name+", not seen before", fresh, token.ErrRevoked)
			n.wantVerdict(t, name+", another client", other, nil)
			if !n.verifier.Revoked(claimsFor("gone")) || n.verifier.Revoked(claimsFor("stays")) {
				t.Errorf("%s: streams of the wrong client would be ended", name)
			}
		}
		// A day is longer than any of its tokens lives here.
		time.Sleep(26 * time.Hour)
		if a.revocations.Sweep(); a.revocations.Len() != 0 {
			t.Errorf("%d entries are left", a.revocations.Len())
		}
	})
}

func TestAnIDThatComesBackGetsTokensAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		a, b := newNode(t, s), newNode(t, s)
		defer b.follow(t)()
		old := a.mintFor(t, "robot", "grant1")
		if _, removed := a.revocations.RemovedUntil("robot"); removed {
			t.Error("removed before anybody removed it")
		}
		until := time.Now().Add(time.Minute)
		if err := a.revocations.AddClient(t.Context(), "robot", until, accessLifetime); err != nil {
			t.Fatal(err)
		}
		if got, removed := a.revocations.RemovedUntil("robot"); !removed || got.Unix() != until.Unix() {
			t.Errorf("removed until %v, %v", got, removed)
		}
		time.Sleep(30 * time.Second)
		late := a.mintFor(t, "robot", "grant2")
		time.Sleep(31 * time.Second)
		again := a.mintFor(t, "robot", "grant3")
		for name, n := range map[string]*node{"here": a, "on the other node": b, "after a restart": newNode(t, s)} {
			n.wantVerdict(t, name+", of before", old, token.ErrRevoked)
			n.wantVerdict(t, name+", of a clock that is ahead", late, token.ErrRevoked)
			n.wantVerdict(t, name+", of afterwards", again, nil)
		}
		// It is removed once more, and later for good.
		if err := a.revocations.AddClient(t.Context(), "robot", time.Now().Add(time.Minute), accessLifetime); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		a.wantVerdict(t, "after the second removal", again, token.ErrRevoked)
		b.wantVerdict(t, "after the second removal on the other node", again, token.ErrRevoked)
		if err := a.revocations.AddClient(t.Context(), "robot", time.Time{}, accessLifetime); err != nil {
			t.Fatal(err)
		}
		// Nothing makes an entry less strict.
		if err := a.revocations.AddClient(t.Context(), "robot", time.Now(), accessLifetime); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if got, removed := a.revocations.RemovedUntil("robot"); !removed || got.Before(time.Now().AddDate(100, 0, 0)) {
			t.Errorf("after a removal for good: until %v, %v", got, removed)
		}
		newest := a.mintFor(t, "robot", "grant4")
		for name, n := range map[string]*node{"here": a, "on the other node": b, "after a restart": newNode(t, s)} {
			n.wantVerdict(t, name+", after a removal for good", newest, token.ErrRevoked)
		}
	})
}

// The set is read again every minute, which must not make every token be looked at
// anew, nor read every record.
func TestRemovedClientsThatAreKnownAreNotReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewFaulty(memstore.New(0))
		defer s.Close()
		a, b := newNode(t, s.Inner()), newNode(t, s)
		if err := a.revocations.AddClient(t.Context(), "gone", time.Time{}, accessLifetime); err != nil {
			t.Fatal(err)
		}
		defer b.follow(t)()
		synctest.Wait()
		told, before := 0, len(s.Calls())
		b.revocations.Notify(func(string) {}, func() { told++ })
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		lists, others := 0, 0
		for _, call := range s.Calls()[before:] {
			if call.Method == storetest.List {
				lists++
			} else {
				others++
			}
		}
		if told != 0 || lists < 5 || others != 0 {
			t.Errorf("told %d times after %d lists and %d other calls", told, lists, others)
		}
	})
}

func TestAddClientWithAStoreThatFails(t *testing.T) {
	open := func(t *testing.T) store.Store { return memstore.New(0) }
	storetest.FailEachCall(t, open, func(t *testing.T, f *storetest.Faulty) {
		revocations, err := token.OpenRevocations(t.Context(), f, prefix, zap.NewNop())
		if err != nil {
			return
		}
		err = revocations.AddClient(t.Context(), "gone", time.Time{}, accessLifetime)
		if f.Injected() > 0 && !errors.Is(err, storetest.ErrInjected) || f.Injected() == 0 && err != nil {
			t.Errorf("adding: %v", err)
		}
		if !revocations.RefusesClient("gone", time.Now().Unix()) {
			t.Error("not effective on its own node")
		}
		if f.Injected() > 0 {
			f.Heal()
			if err := revocations.AddClient(t.Context(), "gone", time.Time{}, accessLifetime); err != nil {
				t.Errorf("the next try: %v", err)
			}
		}
		if !newNode(t, f.Inner()).revocations.RefusesClient("gone", time.Now().Unix()) {
			t.Error("other nodes do not know after the next try")
		}
	})
}

// What a newer version of this program, or nobody, could have written refuses all.
func TestARemovalThatCannotBeReadRefusesEverything(t *testing.T) {
	for rule, value := range map[string]string{
		"nothing": "", "no JSON": "{", "another version": `{"v":2,"until":1}`, "no version": `{"until":1}`,
	} {
		t.Run(rule, func(t *testing.T) {
			s := newStore(t)
			n := newNode(t, s)
			if err := n.revocations.AddClient(t.Context(), "gone", time.Now().Add(-time.Hour), accessLifetime); err != nil {
				t.Fatal(err)
			}
			n.wantVerdict(t, "a good record", n.mintFor(t, "gone", "grant1"), nil)
			for e, err := range s.List(t.Context(), prefix+"revoked/") {
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Put(t.Context(), e.Key, store.Record{Value: []byte(value), Expires: e.Expires}); err != nil {
					t.Fatal(err)
				}
			}
			if token.CheckRemoval([]byte(value)) == nil {
				t.Error("the check finds nothing")
			}
			newNode(t, s).wantVerdict(t, "with a bad record", n.mintFor(t, "gone", "grant1"), token.ErrRevoked)
		})
	}
}
