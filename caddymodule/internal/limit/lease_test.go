package limit_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/limit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// Whatever comes where at the same time, no more than the limit passes, and no
// less as long as every node is asked on.
func TestNodesEnforceALimitTogether(t *testing.T) {
	const requests = 10000
	for _, number := range []int{1, 7, 39, 60, 600, 5000} {
		t.Run(fmt.Sprint(number), func(t *testing.T) {
			s := newShared(t)
			s.RepeatUpdates()
			limits := []*limit.Limit{node(s).Limit("x", number, time.Hour), node(s).Limit("x", number, time.Hour)}
			var passed atomic.Int64
			var all sync.WaitGroup
			for i := range 20 {
				all.Go(func() { passed.Add(int64(allowed(t, limits[i%2], "a", requests/20))) })
			}
			all.Wait()
			if passed.Load() != int64(number) {
				t.Errorf("%d of %d requests pass, want %d", passed.Load(), requests, number)
			}
			// A refusal asks the store once, whoever comes.
			if calls := len(s.Calls()); calls > 80 && calls > number+4 {
				t.Errorf("the store was asked %d times", calls)
			}
		})
	}
}

func TestWhatOneNodeHasAllowedIsSpentAtTheOther(t *testing.T) {
	for _, number := range []int{1, 10, 60, 1000} {
		s := newShared(t)
		one, two := node(s).Limit("x", number, time.Hour), node(s).Limit("x", number, time.Hour)
		if n := allowed(t, one, "a", number+5); n != number {
			t.Errorf("%d of %d pass at the first node", n, number)
		}
		if n := allowed(t, two, "a", 5); n != 0 {
			t.Errorf("%d pass at the second node after %d", n, number)
		}
	}
}

// A node that was asked little holds little back from the others.
func TestANodeLeasesLittleBeforeItNeedsMuch(t *testing.T) {
	s := newShared(t)
	one, two := node(s).Limit("x", 1000, time.Hour), node(s).Limit("x", 1000, time.Hour)
	if n := allowed(t, one, "a", 5); n != 5 {
		t.Fatalf("%d of 5 pass", n)
	}
	if n := allowed(t, two, "a", 2000); n < 1000-2*5 || n > 1000-5 {
		t.Errorf("%d pass at the other node, want 990 to 995", n)
	}
}

// The window is that of the first request anywhere.
func TestAWindowIsTheSameAtAllNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShared(t)
		one, two := node(s).Limit("x", 10, time.Minute), node(s).Limit("x", 10, time.Minute)
		allowed(t, one, "a", 10)
		time.Sleep(40 * time.Second)
		if wait, news := two.Take(t.Context(), "a"); wait.Round(time.Second) != 20*time.Second || !news {
			t.Errorf("wait %v, news: %v", wait, news)
		}
		time.Sleep(20 * time.Second)
		if n := allowed(t, two, "a", 6) + allowed(t, one, "a", 6); n != 10 {
			t.Errorf("%d pass in the next window", n)
		}
	})
}

// In a window, a large limit costs few writes, and one that is spent costs none.
func TestTheStoreIsNotAskedForEachRequest(t *testing.T) {
	s := newShared(t)
	l := node(s).Limit("x", 10000, time.Hour)
	allowed(t, l, "a", 10000)
	if n := len(s.Calls()); n > 35 {
		t.Errorf("10000 requests ask the store %d times", n)
	}
	before := len(s.Calls())
	allowed(t, l, "a", 1000)
	if n := len(s.Calls()) - before; n > 1 {
		t.Errorf("1000 refusals ask the store %d times", n)
	}
}

func TestAStoreOfOneProcessIsNotAsked(t *testing.T) {
	s := storetest.NewFaulty(memstore.New(0))
	defer s.Close()
	l := node(s).Limit("x", 10, time.Hour)
	if n := allowed(t, l, "a", 20); n != 10 || len(s.Calls()) > 0 {
		t.Errorf("%d pass; the store was asked %v", n, s.Calls())
	}
}

func TestANodeLimitStaysAtTheNode(t *testing.T) {
	s := newShared(t)
	if n := allowed(t, node(s).NodeLimit("x", 10, time.Hour), "a", 20) + allowed(t, node(s).NodeLimit("x", 10, time.Hour), "a", 20); n != 20 || len(s.Calls()) > 0 {
		t.Errorf("%d pass, the store was asked %d times", n, len(s.Calls()))
	}
}

// While the store is away each node counts by itself, and nobody waits for it
// more than once in a while.
func TestWithoutTheStoreEachNodeCountsByItself(t *testing.T) {
	for _, when := range []storetest.Moment{storetest.Before, storetest.During, storetest.After} {
		t.Run(when.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShared(t)
				core, logs := observer.New(zapcore.InfoLevel)
				one := limit.Share(s, "test/", []byte(macKey), zap.New(core)).Limit("x", 100, time.Minute)
				two := node(s).Limit("x", 100, time.Minute)
				allowed(t, one, "a", 30)
				s.FailMethods(when)
				before := len(s.Calls())
				if n := allowed(t, one, "a", 200); n != 70 {
					t.Errorf("%d more pass at the first node, want 70", n)
				}
				if n := allowed(t, two, "a", 200); n != 100 {
					t.Errorf("%d pass at the second node, want 100", n)
				}
				for i := range 50 {
					allowed(t, one, fmt.Sprint("key ", i), 1)
				}
				if n := len(s.Calls()) - before; n != 2 {
					t.Errorf("the store was asked %d times while it was away, want once by each node", n)
				}
				s.Heal()
				time.Sleep(time.Minute)
				if n := allowed(t, one, "a", 150) + allowed(t, two, "a", 150); n != 100 {
					t.Errorf("%d pass when it is back, want 100", n)
				}
				if logs.FilterLevelExact(zapcore.WarnLevel).Len() != 1 || logs.FilterMessageSnippet("answers again").Len() != 1 {
					t.Errorf("the log has %v", logs.All())
				}
			})
		})
	}
}

// stuck is a store that never answers.
type stuck struct{ store.Store }

func (stuck) Shared() bool { return true }

func (stuck) Update(ctx context.Context, _ string, _ func(store.Record) (store.Record, error)) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestAStoreThatHangsCostsAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := node(stuck{memstore.New(0)}).Limit("x", 10, time.Minute)
		begin := time.Now()
		n := allowed(t, l, "a", 20) + allowed(t, l, "b", 20)
		if waited := time.Since(begin); n != 20 || waited > 250*time.Millisecond {
			t.Errorf("%d pass after %v", n, waited)
		}
	})
}

func TestAClientThatGoesAwayDoesNotTurnTheNodeAway(t *testing.T) {
	s := newShared(t)
	l := node(s).Limit("x", 3, time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if wait, _ := l.Take(ctx, "a"); wait != 0 {
		t.Errorf("wait %v", wait)
	}
	if n := allowed(t, node(s).Limit("x", 3, time.Hour), "a", 5); n != 2 {
		t.Errorf("%d pass at the other node, want 2", n)
	}
}

// However many keys strangers make up, the store keeps so many records.
func TestRecordsAreBounded(t *testing.T) {
	s := newShared(t)
	l := node(s).Limit("x", 5, time.Hour)
	for i := range 20000 {
		if wait, _ := l.Take(t.Context(), fmt.Sprint(i)); wait != 0 {
			t.Fatalf("key %d waits %v", i, wait)
		}
	}
	records := 0
	for key, err := range s.Inner().Keys(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(key, "test/limit/") {
			t.Errorf("key %q", key)
		}
		records++
	}
	if records < 16000 || records > 16500 {
		t.Errorf("%d records", records)
	}
}

func TestRecordsTellNothingOfWhoIsCounted(t *testing.T) {
	s := newShared(t)
	allowed(t, node(s).Limit("token", 10, time.Hour), "alice 192.0.2.1", 3)
	for key, err := range s.Inner().Keys(t.Context(), "") {
		r, getErr := s.Inner().Get(t.Context(), key)
		if err != nil || getErr != nil {
			t.Fatal(err, getErr)
		}
		if text := key + string(r.Value); strings.Contains(text, "alice") || strings.Contains(text, "192.0.2.1") {
			t.Errorf("the store has %s", text)
		}
		if err := limit.CheckRecord(strings.TrimPrefix(key, "test/limit/"), r.Value); err != nil {
			t.Errorf("a sound record: %v", err)
		}
	}
}

func TestCheckRecord(t *testing.T) {
	good := strings.Repeat("a", 32)
	for rule, tc := range map[string]struct{ name, value, want string }{
		"another key":     {"x", `{"v":1,"ends":"2026-01-02T03:04:05Z","leased":1}`, "the key is not that of a count"},
		"capital letters": {strings.ToUpper(good), `{"v":1,"ends":"2026-01-02T03:04:05Z","leased":1}`, "the key is not that of a count"},
		"no JSON":         {good, `{`, "cannot be read"},
		"a newer version": {good, `{"v":2}`, "version 2; this program reads version 1"},
		"no end":          {good, `{"v":1,"leased":1}`, "incomplete"},
		"nothing counted": {good, `{"v":1,"ends":"2026-01-02T03:04:05Z"}`, "incomplete"},
	} {
		if err := limit.CheckRecord(tc.name, []byte(tc.value)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", rule, err, tc.want)
		}
	}
	if err := limit.CheckRecord(good, []byte(`{"v":1,"ends":"2026-01-02T03:04:05Z","leased":1}`)); err != nil {
		t.Error(err)
	}
}

func TestARecordThatCannotBeReadIsNoRefusal(t *testing.T) {
	s := newShared(t)
	l := node(s).Limit("x", 5, time.Hour)
	allowed(t, l, "a", 1)
	for key := range s.Inner().Keys(t.Context(), "") {
		if err := s.Inner().Put(t.Context(), key, store.Record{Value: []byte(`{"v":9}`)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := allowed(t, l, "a", 20); n != 4 {
		t.Errorf("%d pass, want the 4 that the node still has", n)
	}
}
