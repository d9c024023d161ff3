package apitoken_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/apitoken"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

func TestTokensReachOtherNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		a, b := newNode(t, s), newNode(t, s)
		defer b.follow()()
		synctest.Wait()
		secret := a.make(apitoken.Spec{Name: "ci"})
		kept := a.make(apitoken.Spec{Name: "kept"})
		synctest.Wait()
		claims, ok := b.view.Find(secret)
		if !ok || !b.finds(kept) {
			t.Fatal("unknown on the other node")
		}
		a.revoke("ci")
		synctest.Wait()
		if b.finds(secret) || !b.hasEnded(claims.GrantID) || !a.hasEnded(claims.GrantID) {
			t.Errorf("after it was revoked elsewhere it is found: %v, ended: %v", b.finds(secret), b.ended)
		}
		// The name is free again, and the old token is not.
		next := a.make(apitoken.Spec{Name: "ci"})
		synctest.Wait()
		if b.finds(secret) || !b.finds(next) || !b.finds(kept) {
			t.Error("the other node has mixed up two tokens of one name")
		}
	})
}

func TestWhatHappensWhileNobodyListensIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewFaulty(newStore(t))
		a, b := newNode(t, s.Inner()), newNode(t, s)
		old, replaced := a.make(apitoken.Spec{Name: "old"}), a.make(apitoken.Spec{Name: "replaced"})
		defer b.follow()()
		synctest.Wait()
		s.FailMethods(storetest.Before, storetest.Get)
		other := a.make(apitoken.Spec{Name: "other"}) // which ends the watch, as it cannot be read
		synctest.Wait()
		a.revoke("old")
		a.revoke("replaced")
		next := a.make(apitoken.Spec{Name: "replaced"})
		time.Sleep(10 * time.Second)
		if !b.finds(old) {
			t.Fatal("the fault was none")
		}
		s.Heal()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if b.finds(old) || b.finds(replaced) || !b.finds(next) || !b.finds(other) {
			t.Errorf("old %v, replaced %v, next %v, other %v", b.finds(old), b.finds(replaced), b.finds(next), b.finds(other))
		}
	})
}

func TestAnAnswerThatComesLateBringsNoRevokedTokenBack(t *testing.T) {
	s := storetest.NewLate(newStore(t))
	n := newNode(t, s)
	secret := n.make(apitoken.Spec{Name: "ci"})
	s.Arm()
	stop := n.follow() // which reads the token
	<-s.Answered
	revoked := make(chan error, 1)
	go func() { revoked <- n.Revoke(t.Context(), "ci") }()
	var err error
	finished := false
	select {
	case err = <-revoked: // it need not wait for the answer
		finished = true
	case <-time.After(200 * time.Millisecond):
	}
	close(s.Release)
	if !finished {
		err = <-revoked
	}
	stop()
	if err != nil || n.finds(secret) {
		t.Errorf("revoked with the error %v, and it is found: %v", err, n.finds(secret))
	}
}

func TestAFailureOfTheStoreIsNoSuccess(t *testing.T) {
	for _, when := range []storetest.Moment{storetest.Before, storetest.During, storetest.After} {
		t.Run(when.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := storetest.NewFaulty(newStore(t))
				n := newNode(t, s)
				kept := n.make(apitoken.Spec{Name: "kept"})
				defer n.follow()()
				synctest.Wait()
				s.FailMethods(when, storetest.Update)
				if secret, _, err := n.Create(t.Context(), apitoken.Spec{Name: "ci"}); err == nil || secret != "" {
					t.Errorf("made %q with the error %v", secret, err)
				}
				err := n.Revoke(t.Context(), "kept")
				if err == nil || errors.Is(err, apitoken.ErrUnknown) {
					t.Errorf("revoked with the error %v", err)
				}
				s.Heal()
				synctest.Wait()
				// What was done in spite of the error shows as it is.
				if gone := when == storetest.After; n.finds(kept) == gone {
					t.Errorf("the token is found: %v", n.finds(kept))
				}
				if listed := len(n.List()); listed != 1 {
					t.Errorf("%d tokens are listed", listed)
				}
			})
		})
	}
}

func TestTokensThatCannotBeMade(t *testing.T) {
	s := newStore(t)
	n := newNode(t, s)
	for _, name := range []string{"", ".", "-a", "a/b", "a b", "ä", strings.Repeat("a", 65), "a\n"} {
		if _, _, err := n.Create(t.Context(), apitoken.Spec{Name: name}); err == nil || !strings.HasPrefix(err.Error(), "the name of a token") {
			t.Errorf("the name %q: %v", name, err)
		}
		if err := n.Revoke(t.Context(), name); !errors.Is(err, apitoken.ErrUnknown) {
			t.Errorf("revoking %q: %v", name, err)
		}
	}
	n.make(apitoken.Spec{Name: "A.b-c_9"})
	// Another node may have made it a moment ago.
	other := newNode(t, newStore(t))
	other.Tokens, _ = apitoken.Open(t.Context(), s, prefix, zap.NewNop())
	for _, node := range []*node{n, other} {
		if _, _, err := node.Create(t.Context(), apitoken.Spec{Name: "A.b-c_9"}); !errors.Is(err, apitoken.ErrExists) {
			t.Errorf("the same name: %v", err)
		}
	}
}

func TestTheNumberOfTokensIsBounded(t *testing.T) {
	n := newNode(t, newStore(t))
	for i := range apitoken.MaxTokens {
		n.make(apitoken.Spec{Name: fmt.Sprint("t", i)})
	}
	if _, _, err := n.Create(t.Context(), apitoken.Spec{Name: "more"}); !errors.Is(err, apitoken.ErrTooMany) {
		t.Errorf("one more: %v", err)
	}
	n.revoke("t7")
	n.make(apitoken.Spec{Name: "more"})
}

func TestATokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newStore(t))
		secret := n.make(apitoken.Spec{Name: "ci", Expires: time.Now().Add(time.Hour)})
		claims, _ := n.view.Find(secret)
		defer n.follow()()
		time.Sleep(time.Hour - time.Second)
		if !n.finds(secret) {
			t.Error("it expires too early")
		}
		time.Sleep(time.Second)
		if n.finds(secret) || !n.view.Revoked(claims.GrantID) || len(n.List()) != 0 {
			t.Error("it goes on")
		}
		time.Sleep(2 * time.Minute)
		if !n.hasEnded(claims.GrantID) {
			t.Error("nobody was told that its streams have to end")
		}
	})
}
