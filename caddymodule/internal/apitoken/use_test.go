package apitoken_test

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/apitoken"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// used returns the last use that the store knows of.
func used(t *testing.T, s store.Store, name string) (at time.Time) {
	t.Helper()
	r, err := s.Get(t.Context(), prefix+"apitoken/"+name)
	if err != nil {
		t.Fatal(err)
	}
	var rec struct {
		LastUsed time.Time `json:"last_used"`
	}
	if err := json.Unmarshal(r.Value, &rec); err != nil {
		t.Fatal(err)
	}
	return rec.LastUsed
}

func TestTheLastUseIsNotedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewFaulty(newStore(t))
		a, b := newNode(t, s), newNode(t, s.Inner())
		secret := a.make(apitoken.Spec{Name: "ci", Expires: time.Now().Add(24 * time.Hour)})
		a.make(apitoken.Spec{Name: "idle"})
		defer a.follow()()
		defer b.follow()()
		synctest.Wait()
		calls := len(s.Calls())
		began := time.Now()
		for range 3600 {
			a.finds(secret)
			time.Sleep(time.Second)
		}
		writes := 0
		for _, call := range s.Calls()[calls:] {
			if call.Method == storetest.Update {
				writes++
			}
		}
		if writes < 5 || writes > 7 {
			t.Errorf("%d writes in an hour of use", writes)
		}
		if at := used(t, s.Inner(), "ci"); at.Sub(began) < 45*time.Minute {
			t.Errorf("the store knows of a use after %v", at.Sub(began))
		}
		if listed := b.List(); listed[0].Name != "ci" || listed[0].LastUsed.Sub(began) < 45*time.Minute || !listed[1].LastUsed.IsZero() {
			t.Errorf("the other node lists %+v", listed)
		}
		if r, err := s.Get(t.Context(), prefix+"apitoken/ci"); err != nil || r.Expires.IsZero() {
			t.Errorf("the note has changed when it expires: %v, %v", r.Expires, err)
		}
	})
}

func TestANoteOfAUseBringsNoRevokedTokenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		a, b := newNode(t, s), newNode(t, s)
		secret := a.make(apitoken.Spec{Name: "ci"})
		b.Tokens, _ = apitoken.Open(t.Context(), s, prefix, zap.NewNop())
		a.finds(secret)
		b.revoke("ci") // of which a does not hear, as it follows nobody yet
		next := b.make(apitoken.Spec{Name: "ci"})
		defer a.follow()()
		time.Sleep(5 * time.Minute)
		if c := newNode(t, s); c.finds(secret) || !c.finds(next) {
			t.Errorf("the revoked token is found: %v, the next one: %v", c.finds(secret), c.finds(next))
		}
		if at := used(t, s, "ci"); !at.IsZero() {
			t.Errorf("the use of one token is noted at another: %v", at)
		}
	})
}
