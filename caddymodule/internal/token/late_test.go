package token_test

import (
	"sync"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

func TestAnAnswerThatComesLateBringsNoStolenKeyBack(t *testing.T) {
	s := storetest.NewLate(newStore(t))
	n := newNode(t, s)
	stolen := n.mint(t, "grant1")
	s.Arm()
	var wg sync.WaitGroup
	wg.Go(func() {
		// A key id that nobody knows makes the node read the keys.
		_, _ = n.verifier.Verify(t.Context(), forge(`{"alg":"ES256","typ":"at+jwt","kid":"junk"}`, `{}`, signed(make([]byte, 64))))
	})
	<-s.Answered
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
	close(s.Release)
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
