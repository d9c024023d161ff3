package delegation_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/delegation"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// town is a provider of several people, whose tokens bear the subject. It is slow
// now and then, and at times down.
type town struct {
	login.Redirect
	mu    sync.Mutex
	good  map[string]string // refresh tokens by subject
	given int
	again []string // refresh tokens that came when they were used up
}

func (p *town) Recognizes(login.Identity) bool { return true }

func (p *town) give(subject string) login.Tokens {
	p.given++
	p.good[subject] = fmt.Sprint(subject, "/rt", p.given)
	return login.Tokens{
		Access: fmt.Sprint(subject, "/at", p.given), Refresh: p.good[subject], Expires: time.Now().Add(time.Duration(40+rand.IntN(60)) * time.Second),
	}
}

func (p *town) signIn(subject string) login.Identity {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.give(subject)
	return login.Identity{Subject: subject, Tokens: &t}
}

func (p *town) Renew(ctx context.Context, subject, refresh string) (login.Tokens, error) {
	select {
	case <-time.After(time.Duration(rand.IntN(13)) * time.Second):
	case <-ctx.Done():
		return login.Tokens{}, login.ErrUnreachable
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case rand.IntN(10) == 0:
		return login.Tokens{}, login.ErrUnreachable
	case p.good[subject] != refresh:
		p.again = append(p.again, refresh)
		return login.Tokens{}, login.ErrDenied
	}
	return p.give(subject), nil
}

// Many calls at once, on three nodes, use no refresh token twice, and nobody gets
// the tokens of somebody else.
func TestACrowdIsKeptApart(t *testing.T) {
	users := map[string]string{"acme:1": strings.Repeat("a", 16), "acme:11": strings.Repeat("b", 16), "acme:A": strings.Repeat("c", 16), "acme:a": strings.Repeat("d", 16)}
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		e.store.RepeatUpdates()
		p := &town{good: map[string]string{}}
		nodes := []*delegation.Keeper{e.node(), e.node(), e.node()}
		var calls sync.WaitGroup
		for subject, user := range users {
			if err := nodes[0].Keep(t.Context(), user, p.signIn(subject), lifetime); err != nil {
				t.Fatal(err)
			}
			for range 8 {
				calls.Go(func() {
					for range 50 {
						time.Sleep(time.Duration(rand.IntN(20_000)) * time.Millisecond)
						node := nodes[rand.IntN(len(nodes))]
						ctx, hangUp := context.WithTimeout(t.Context(), time.Duration(rand.IntN(30))*time.Second)
						access, err := node.Token(ctx, user, delegation.Source{Provider: p, Lifetime: lifetime})
						hangUp()
						if err == nil && !strings.HasPrefix(access, subject+"/") || err != nil && !errors.Is(err, delegation.ErrUnavailable) {
							t.Errorf("%s gets %q, %v", subject, access, err)
						}
						if rand.IntN(50) == 0 {
							node.Doubt(user, access)
						}
					}
				})
			}
		}
		calls.Wait()
		time.Sleep(time.Minute) // until renewals that nobody waits for have ended
		if len(p.again) > 0 {
			t.Errorf("these came twice: %q", p.again)
		}
	})
}
