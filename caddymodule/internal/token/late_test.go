package token_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// lateStore holds the answer to a Get back, once it is told to.
type lateStore struct {
	store.Store
	hold     sync.Once
	armed    bool
	answered chan struct{} // closed when the answer is there
	release  chan struct{}
}

func (s *lateStore) Get(ctx context.Context, key string) (store.Record, error) {
	r, err := s.Store.Get(ctx, key)
	if s.armed {
		s.hold.Do(func() {
			close(s.answered)
			<-s.release
		})
	}
	return r, err
}

func TestAnAnswerThatComesLateBringsNoStolenKeyBack(t *testing.T) {
	s := &lateStore{Store: newStore(t), answered: make(chan struct{}), release: make(chan struct{})}
	n := newNode(t, s)
	stolen := n.mint(t, "grant1")
	s.armed = true
	var wg sync.WaitGroup
	wg.Go(func() {
		// A key id that nobody knows makes the node read the keys.
		_, _ = n.verifier.Verify(t.Context(), forge(`{"alg":"ES256","typ":"at+jwt","kid":"junk"}`, `{}`, signed(make([]byte, 64))))
	})
	<-s.answered
	rotated := make(chan []token.KeyInfo, 1)
	wg.Go(func() {
		keys, err := n.keys.Rotate(t.Context(), true)
		if err != nil {
			t.Error(err)
		}
		rotated <- keys
	})
	var keys []token.KeyInfo
	select {
	case keys = <-rotated: // it need not wait for the answer
	case <-time.After(200 * time.Millisecond):
	}
	close(s.release)
	wg.Wait()
	if keys == nil {
		keys = <-rotated
	}
	if _, err := n.verifier.Verify(t.Context(), stolen); err == nil {
		t.Error("a token of the stolen key is good again")
	}
	if got := n.keys.List(); len(got) != 1 || len(keys) != 1 || got[0].ID != keys[0].ID {
		t.Errorf("the node has the keys %+v after a rotation to %+v", got, keys)
	}
}
