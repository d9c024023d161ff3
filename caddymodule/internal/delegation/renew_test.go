package delegation_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/delegation"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

func TestOneNodeRenews(t *testing.T) {
	for _, repeat := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			e := newEnv(t)
			if repeat {
				e.store.RepeatUpdates()
			}
			e.idp.takes = 5 * time.Second
			nodes := []*delegation.Keeper{e.node(), e.node(), e.node()}
			e.signIn(nodes[0])
			time.Sleep(time.Hour)
			var wg sync.WaitGroup
			for i := range 30 {
				wg.Go(func() { e.want(nodes[i%3], "one of many", "at1", nil) })
			}
			wg.Wait()
			if e.idp.count != 1 {
				t.Errorf("renewed %d times", e.idp.count)
			}
		})
	}
}

func TestANodeThatDiesWhileItRenewsHoldsNobodyUpForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		k := e.node()
		e.signIn(k)
		time.Sleep(time.Hour)
		// The node that renews does not come back to the store.
		e.idp.takes = 24 * time.Hour
		dead := storetest.NewFaulty(e.store)
		other, err := delegation.NewKeeper(dead, "test/", derive)
		if err != nil {
			t.Fatal(err)
		}
		gone, cancel := context.WithCancel(t.Context())
		go func() {
			_, _ = other.Token(gone, alice, delegation.Source{Provider: e.idp, Lifetime: lifetime})
		}()
		synctest.Wait()
		dead.FailMethods(storetest.Before)
		cancel()
		alive := &provider{good: "rt0"}
		begin := time.Now()
		got, err := k.Token(t.Context(), alice, delegation.Source{Provider: alive, Lifetime: lifetime})
		if got != "at1" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		if took := time.Since(begin); took < 10*time.Second || took > 16*time.Second {
			t.Errorf("it took %v", took)
		}
		time.Sleep(time.Minute) // until the other one has ended
	})
}

func TestARenewalThatNobodyWaitsForAnyMoreIsSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		e.idp.takes = 4 * time.Second
		k := e.node()
		e.signIn(k)
		time.Sleep(time.Hour)
		e.leasedFor(15 * time.Second)
		var wg sync.WaitGroup
		wg.Go(func() { e.want(k, "after 20 seconds", "", delegation.ErrUnavailable) })
		time.Sleep(17 * time.Second)
		e.store.FailMethods(storetest.Before, storetest.Update)
		time.Sleep(5 * time.Second)
		e.store.Heal()
		wg.Wait()
		time.Sleep(time.Second)
		e.want(k, "when the store is back", "at1", nil)
		if e.idp.count != 1 {
			t.Errorf("renewed %d times", e.idp.count)
		}
	})
}

func TestALeaseOfANodeWhoseClockIsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		k := e.node()
		e.signIn(k)
		time.Sleep(time.Hour)
		e.leasedFor(17 * time.Second)
		begin := time.Now()
		e.want(k, "when the lease has ended", "at1", nil)
		if took := time.Since(begin); took < 17*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func (e *env) leasedFor(d time.Duration) {
	e.t.Helper()
	if err := e.store.Update(e.t.Context(), "test/delegation/"+alice, func(r store.Record) (store.Record, error) {
		r.Value = []byte(strings.TrimSuffix(string(r.Value), "}") + `,"lease":"` + time.Now().Add(d).Format(time.RFC3339Nano) + `"}`)
		return r, nil
	}); err != nil {
		e.t.Fatal(err)
	}
}

type slow struct {
	store.Store
	takes time.Duration
}

func (s slow) Update(ctx context.Context, key string, fn func(store.Record) (store.Record, error)) error {
	err := s.Store.Update(ctx, key, fn)
	time.Sleep(s.takes)
	return err
}

func TestALateLeaseIsNoLongerOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		e.idp.takes = 6 * time.Second
		k := e.node()
		late, err := delegation.NewKeeper(slow{e.store, 10 * time.Second}, "test/", derive)
		if err != nil {
			t.Fatal(err)
		}
		e.signIn(k)
		time.Sleep(time.Hour)
		var wg sync.WaitGroup
		wg.Go(func() { e.want(late, "on the late node", "", delegation.ErrUnavailable) })
		synctest.Wait()
		wg.Go(func() { e.want(k, "on the other node", "at1", nil) })
		wg.Wait()
		time.Sleep(time.Minute) // until the late node has ended
		if e.idp.count != 1 {
			t.Errorf("the provider was asked %d times", e.idp.count)
		}
	})
}

func TestASignInWinsOverARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, fault := range []error{nil, login.ErrDenied} {
			e := newEnv(t)
			e.idp.takes, e.idp.fault = time.Second, fault
			k := e.node()
			e.signIn(k)
			time.Sleep(time.Hour)
			var wg sync.WaitGroup
			wg.Go(func() { e.want(k, "a request while somebody signs in", "new", nil) })
			synctest.Wait()
			e.keep(k, login.Tokens{Access: "new", Refresh: "r", Expires: time.Now().Add(time.Hour)}, lifetime)
			wg.Wait()
			e.want(k, "later", "new", nil)
		}
	})
}

func TestRenewedTokensOutlastAFaultOfTheStore(t *testing.T) {
	for _, when := range []storetest.Moment{storetest.Before, storetest.During, storetest.After} {
		synctest.Test(t, func(t *testing.T) {
			e := newEnv(t)
			e.idp.takes = time.Second
			k := e.node()
			e.signIn(k)
			time.Sleep(time.Hour)
			var wg sync.WaitGroup
			wg.Go(func() { e.want(k, "whoever waits", "at1", nil) })
			synctest.Wait()
			e.store.FailMethods(when, storetest.Update)
			time.Sleep(8 * time.Second)
			e.store.Heal()
			wg.Wait()
			time.Sleep(time.Hour)
			e.want(k, "an hour later", "at2", nil)
		})
	}
}

func TestAClockThatIsSetBackHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		k := e.node()
		e.signIn(k)
		time.Sleep(time.Hour)
		e.leasedFor(time.Hour)
		e.want(k, "with a lease from before", "at1", nil)
	})
}

func TestWhoeverHangsUpEndsNoRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		e.idp.takes = 5 * time.Second
		k := e.node()
		e.signIn(k)
		time.Sleep(time.Hour)
		gone, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if got, err := k.Token(gone, alice, delegation.Source{Provider: e.idp, Lifetime: lifetime}); got != "" || !errors.Is(err, delegation.ErrUnavailable) {
			t.Errorf("whoever has gone gets %q, %v", got, err)
		}
		time.Sleep(10 * time.Second)
		e.want(k, "somebody else", "at1", nil)
	})
}
