package grant_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// stepUp notes that a call needs a scope.
func (e *env) stepUp(t testing.TB, id string, scopes ...string) {
	t.Helper()
	if err := e.StepUp(t.Context(), id, scopes); err != nil {
		t.Fatal(err)
	}
}

// wantRefused demands that a refresh is refused so that the client asks its user.
func (e *env) wantRefused(t testing.TB, token string) {
	t.Helper()
	_, next, err := e.Refresh(t.Context(), renewal(token))
	wantCode(t, err, "invalid_grant")
	if err != nil && !strings.Contains(err.Error(), "scope") || next != "" {
		t.Errorf("got %q, %v", next, err)
	}
}

func TestAStepUpRefusesOneRefreshAndUsesNothingUp(t *testing.T) {
	for _, repeat := range []bool{false, true} {
		e := newEnv(t)
		g, token := e.connect(t, consent("request1"))
		if repeat {
			e.store.RepeatUpdates()
		}
		e.stepUp(t, g.ID, "cases:write")
		before := e.stored(t)
		e.wantRefused(t, token)
		after := e.stored(t)
		if after.Refresh.Generation != before.Refresh.Generation || !after.Expires.Equal(before.Expires) || !after.LastUsed.Equal(before.LastUsed) {
			t.Errorf("the grant has changed from %+v to %+v", before, after)
		}
		_, next := e.refresh(t, token)
		if _, again := e.refresh(t, token); again != next {
			t.Error("the token has no grace time any more")
		}
		e.wantRevoked(t, false)
	}
}

func TestOneOfManyRefreshesIsRefused(t *testing.T) {
	e := newEnv(t)
	g, token := e.connect(t, consent("request1"))
	e.stepUp(t, g.ID, "cases:write")
	var refused atomic.Int32
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, _, err := e.Refresh(t.Context(), renewal(token)); err != nil {
				wantCode(t, err, "invalid_grant")
				refused.Add(1)
			}
		})
	}
	wg.Wait()
	if n := refused.Load(); n != 1 {
		t.Errorf("%d refreshes are refused, want one", n)
	}
	e.wantRevoked(t, false)
}

// The token before the last one, within its grace time, is as good as the last.
func TestAPreviousTokenIsRefusedAlike(t *testing.T) {
	e := newEnv(t)
	g, token := e.connect(t, consent("request1"))
	_, next := e.refresh(t, token)
	e.stepUp(t, g.ID, "cases:write")
	e.wantRefused(t, token)
	if _, again := e.refresh(t, token); again != next {
		t.Error("it gets another successor")
	}
}

// A stolen token is found out all the same.
func TestAReplayIsFoundOutDuringAStepUp(t *testing.T) {
	e := newEnv(t)
	g, first := e.connect(t, consent("request1"))
	_, second := e.refresh(t, first)
	e.refresh(t, second)
	e.stepUp(t, g.ID, "cases:write")
	_, _, err := e.Refresh(t.Context(), renewal(first))
	wantCode(t, err, "invalid_grant")
	e.wantRevoked(t, true)
}

// Requests that are refused for another reason do not use the refusal up.
func TestOtherRefusalsLeaveTheStepUpAlone(t *testing.T) {
	e := newEnv(t)
	g, token := e.connect(t, consent("request1"))
	e.stepUp(t, g.ID, "cases:write")
	e.unchanged(t, func() {
		other := renewal(token)
		other.ClientID = "client2"
		_, _, err := e.Refresh(t.Context(), other)
		wantCode(t, err, "invalid_grant")
		narrow := renewal(token)
		narrow.Scope = oauth.Scopes{"unknown"}
		_, _, err = e.Refresh(t.Context(), narrow)
		wantCode(t, err, "invalid_scope")
	})
	e.wantRefused(t, token)
}

func TestAStepUpPassesAndComesOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		g, token := e.connect(t, consent("request1"))
		e.stepUp(t, g.ID, "cases:write")
		time.Sleep(2*time.Minute + time.Second)
		_, token = e.refresh(t, token) // has other reasons
		time.Sleep(7 * time.Minute)
		e.unchanged(t, func() { e.stepUp(t, g.ID, "cases:write") })
		_, token = e.refresh(t, token)
		time.Sleep(time.Minute)
		e.stepUp(t, g.ID, "cases:write")
		e.wantRefused(t, token)
		e.stepUp(t, g.ID, "other")
		e.wantRefused(t, token)
		e.unchanged(t, func() { e.stepUp(t, g.ID, "other"); e.stepUp(t, g.ID, "cases:write") })
		e.refresh(t, token)
	})
}

func TestStepUpsAreBounded(t *testing.T) {
	e := newEnv(t)
	g, token := e.connect(t, consent("request1"))
	refused := 0
	for i := range 20 {
		e.stepUp(t, g.ID, fmt.Sprint("scope", i))
		_, next, err := e.Refresh(t.Context(), renewal(token))
		if err != nil {
			refused++
		} else {
			token = next
		}
	}
	if refused != 4 {
		t.Errorf("%d refreshes are refused, want 4", refused)
	}
}

func TestAStepUpIsForWhatARefreshDoesNotGive(t *testing.T) {
	e := newEnv(t)
	g, token := e.connect(t, consent("request1"))
	e.unchanged(t, func() {
		e.stepUp(t, g.ID, "admin") // the grant has it
		e.stepUp(t, "unknown", "cases:write")
		e.stepUp(t, "", "cases:write")
		e.stepUp(t, strings.Repeat("a", len(g.ID)), "cases:write")
	})
	e.refresh(t, token)
	if err := e.Revoke(t.Context(), g.ID); err != nil {
		t.Fatal(err)
	}
	e.unchanged(t, func() { e.stepUp(t, g.ID, "cases:write") })
}

func TestAStepUpThatCannotBeStoredIsAnError(t *testing.T) {
	e := newEnv(t)
	g, token := e.connect(t, consent("request1"))
	e.store.FailMethods(storetest.Before, storetest.Update)
	if err := e.StepUp(t.Context(), g.ID, oauth.Scopes{"cases:write"}); !errors.Is(err, storetest.ErrInjected) {
		t.Errorf("got %v", err)
	}
	e.store.Heal()
	e.refresh(t, token)
}
