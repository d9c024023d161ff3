package token_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// follow lets the node follow the others until the returned function is called.
func (n *node) follow(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.revocations.Follow(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

func TestRevocationIsEffectiveAtOnceOnItsOwnNode(t *testing.T) {
	n := newNode(t, newStore(t))
	if n.revocations.Has("grant1") {
		t.Error("revoked before anybody revoked it")
	}
	if err := n.revocations.Add(t.Context(), "grant1", accessLifetime); err != nil {
		t.Fatal(err)
	}
	if !n.revocations.Has("grant1") || n.revocations.Has("grant2") {
		t.Error("want grant1 to be revoked and nothing else")
	}
}

func TestRevocationReachesOtherNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		a, b := newNode(t, s), newNode(t, s)
		defer b.follow(t)()
		raw := a.mint(t, "grant1")
		if _, err := b.verifier.Verify(t.Context(), raw); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := a.revocations.Add(t.Context(), "grant1", accessLifetime); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := b.verifier.Verify(t.Context(), raw); !errors.Is(err, token.ErrRevoked) {
			t.Errorf("on the other node: %v, want ErrRevoked", err)
		}
	})
}

func TestRevocationsOutliveARestart(t *testing.T) {
	s := newStore(t)
	if err := newNode(t, s).revocations.Add(t.Context(), "grant1", accessLifetime); err != nil {
		t.Fatal(err)
	}
	if !newNode(t, s).revocations.Has("grant1") {
		t.Error("the revocation is forgotten")
	}
	if other, err := token.OpenRevocations(t.Context(), s, "other/", zap.NewNop()); err != nil || other.Has("grant1") {
		t.Errorf("another issuer: %v, and has the revocation: %v", err, err == nil && other.Has("grant1"))
	}
}

// cutStore ends watches on demand, as a lost connection does.
type cutStore struct {
	store.Store

	mu   sync.Mutex
	cuts []context.CancelFunc
}

func (s *cutStore) Watch(ctx context.Context, prefix string) (<-chan string, error) {
	ctx, cancel := context.WithCancel(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cuts = append(s.cuts, cancel)
	return s.Store.Watch(ctx, prefix)
}

func (s *cutStore) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, cancel := range s.cuts {
		cancel()
	}
	s.cuts = nil
}

func TestFollowCatchesUpAfterAWatchHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &cutStore{Store: newStore(t)}
		a, b := newNode(t, s.Store), newNode(t, s)
		defer b.follow(t)()
		synctest.Wait()
		for round := range 3 {
			// The revocation falls into the gap between two watches.
			s.cut()
			missed, seen := fmt.Sprint("missed", round), fmt.Sprint("seen", round)
			if err := a.revocations.Add(t.Context(), missed, accessLifetime); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if !b.revocations.Has(missed) {
				t.Errorf("round %d: what happened between two watches is unknown a second later", round)
			}
			if err := a.revocations.Add(t.Context(), seen, accessLifetime); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if !b.revocations.Has(seen) {
				t.Errorf("round %d: the new watch sees nothing", round)
			}
		}
	})
}

func TestFollowComesBackAfterEveryFault(t *testing.T) {
	for _, method := range []storetest.Method{storetest.Watch, storetest.List} {
		t.Run(string(method), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := storetest.NewFaulty(newStore(t))
				a, b := newNode(t, s.Inner()), newNode(t, s)
				s.FailMethods(storetest.Before, method)
				defer b.follow(t)()
				synctest.Wait()
				if err := a.revocations.Add(t.Context(), "grant1", accessLifetime); err != nil {
					t.Fatal(err)
				}
				calls := len(s.Calls())
				time.Sleep(10 * time.Second)
				if made := len(s.Calls()) - calls; made > 40 {
					t.Errorf("%d calls in 10 s to a store that fails", made)
				}
				if b.revocations.Has("grant1") {
					t.Fatal("the fault was none")
				}
				s.Heal()
				time.Sleep(time.Second)
				synctest.Wait()
				if !b.revocations.Has("grant1") {
					t.Error("unknown a second after the store came back")
				}
			})
		})
	}
}

func TestFollowEndsWithItsContextAndWithTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newStore(t))
		stop := n.follow(t)
		synctest.Wait()
		stop() // hangs, and fails the test, unless Follow returns
	})
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(0)
		n := newNode(t, s)
		done := make(chan struct{})
		go func() {
			defer close(done)
			n.revocations.Follow(t.Context())
		}()
		synctest.Wait()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		<-done
	})
}

func TestRevocationOutlivesEveryToken(t *testing.T) {
	for _, tc := range []struct {
		rule           string
		issued, atTime time.Duration // the lifetime when the token was issued and when it was revoked
	}{
		{"the lifetime is what it was", accessLifetime, accessLifetime},
		{"the lifetime was made shorter since", 23 * time.Hour, 5 * time.Minute},
		{"a long lifetime", 100 * time.Hour, 100 * time.Hour},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t)
				n := newNode(t, s)
				raw, err := n.keys.Mint(claimsOf("grant1"), tc.issued)
				if err != nil {
					t.Fatal(err)
				}
				if err := n.revocations.Add(t.Context(), "grant1", tc.atTime); err != nil {
					t.Fatal(err)
				}
				time.Sleep(tc.issued - time.Second)
				n.revocations.Sweep()
				for _, n := range []*node{n, newNode(t, s)} {
					if _, err := n.verifier.Verify(t.Context(), raw); !errors.Is(err, token.ErrRevoked) {
						t.Errorf("in its last second: %v, want ErrRevoked", err)
					}
				}
				time.Sleep(25*time.Hour + tc.atTime)
				if n.revocations.Has("grant1") {
					t.Error("the entry is still there although no token can be")
				}
				if n.revocations.Sweep(); n.revocations.Len() != 0 {
					t.Errorf("%d entries after the sweep", n.revocations.Len())
				}
			})
		})
	}
}

func TestRevokingAgainWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		n := newNode(t, s)
		if err := n.revocations.Add(t.Context(), "grant1", accessLifetime); err != nil {
			t.Fatal(err)
		}
		first, err := s.Get(t.Context(), prefix+"revoked/grant1")
		if err != nil {
			t.Fatal(err)
		}
		written, err := s.Watch(t.Context(), prefix)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if err := n.revocations.Add(t.Context(), "grant1", accessLifetime); err != nil {
			t.Fatal(err)
		}
		if again, err := s.Get(t.Context(), prefix+"revoked/grant1"); err != nil || !again.Expires.Equal(first.Expires) || len(written) != 0 {
			t.Errorf("expires %v instead of %v, %d writes, %v", again.Expires, first.Expires, len(written), err)
		}
	})
}

func TestAddWithAStoreThatFails(t *testing.T) {
	open := func(t *testing.T) store.Store { return memstore.New(0) }
	storetest.FailEachCall(t, open, func(t *testing.T, f *storetest.Faulty) {
		revocations, err := token.OpenRevocations(t.Context(), f, prefix, zap.NewNop())
		if err != nil {
			if !errors.Is(err, storetest.ErrInjected) {
				t.Errorf("opening: %v, want the store's error", err)
			}
			return
		}
		err = revocations.Add(t.Context(), "grant1", accessLifetime)
		if f.Injected() > 0 && !errors.Is(err, storetest.ErrInjected) || f.Injected() == 0 && err != nil {
			t.Errorf("adding: %v", err)
		}
		if !revocations.Has("grant1") {
			t.Error("not effective on its own node")
		}
		if f.Injected() > 0 {
			f.Heal()
			if err := revocations.Add(t.Context(), "grant1", accessLifetime); err != nil {
				t.Errorf("the next try: %v", err)
			}
		}
		if !newNode(t, f.Inner()).revocations.Has("grant1") {
			t.Error("other nodes do not know after the next try")
		}
	})
}

func TestTheSetOfRevocationsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newStore(t))
		revoked, good := n.mint(t, "revoked"), n.mint(t, "good")
		if err := n.revocations.Add(t.Context(), "revoked", accessLifetime); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		n.revocations.Fill()
		if err := n.revocations.Add(t.Context(), "one-more", accessLifetime); err != nil {
			t.Fatal(err)
		}
		if got := n.revocations.Len(); got > token.MaxRevoked {
			t.Errorf("the set holds %d entries", got)
		}
		if _, err := n.verifier.Verify(t.Context(), revoked); !errors.Is(err, token.ErrRevoked) {
			t.Errorf("a token that was revoked before: %v, want ErrRevoked", err)
		}
		if _, err := n.verifier.Verify(t.Context(), good); !errors.Is(err, token.ErrRevoked) {
			t.Errorf("another token of before: %v, want it to be refreshed", err)
		}
		time.Sleep(time.Second)
		fresh, last := n.mint(t, "good"), n.mint(t, "one-more")
		if _, err := n.verifier.Verify(t.Context(), fresh); err != nil {
			t.Errorf("a token of afterwards: %v", err)
		}
		if _, err := n.verifier.Verify(t.Context(), last); !errors.Is(err, token.ErrRevoked) {
			t.Errorf("a token of the last grant: %v, want ErrRevoked", err)
		}
		// Reading the store again brings back those that still matter only.
		if err := n.revocations.Add(t.Context(), "later", accessLifetime); err != nil {
			t.Fatal(err)
		}
		n.revocations.Forget()
		defer n.follow(t)()
		synctest.Wait()
		if !n.revocations.Has("later") || n.revocations.Has("revoked") {
			t.Errorf("later: %v, revoked: %v; want the later one only", n.revocations.Has("later"), n.revocations.Has("revoked"))
		}
	})
}
