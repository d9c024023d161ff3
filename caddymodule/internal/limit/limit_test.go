package limit_test

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/limit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// shared is a store of several nodes.
type shared struct{ store.Store }

func (shared) Shared() bool { return true }

func newShared(t testing.TB) *storetest.Faulty {
	s := storetest.NewFaulty(shared{memstore.New(0)})
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// node is the counts of one of several nodes.
func node(s store.Store) *limit.Counts {
	return limit.Share(s, "test/", []byte(macKey), zap.NewNop())
}

const macKey = "0123456789abcdef0123456789abcdef"

// allowed is how many of some requests pass.
func allowed(t testing.TB, l *limit.Limit, key string, requests int) int {
	t.Helper()
	n := 0
	for range requests {
		if wait, _ := l.Take(t.Context(), key); wait == 0 {
			n++
		}
	}
	return n
}

func TestALimitAllowsItsNumberInAWindow(t *testing.T) {
	for name, counts := range map[string]func(t *testing.T) *limit.Counts{
		"of one process":  func(*testing.T) *limit.Counts { return limit.NewCounts() },
		"of several":      func(t *testing.T) *limit.Counts { return node(newShared(t)) },
		"of a lone store": func(*testing.T) *limit.Counts { return node(memstore.New(0)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := counts(t).Limit("x", 50, time.Minute)
				if n := allowed(t, l, "a", 100); n != 50 {
					t.Errorf("%d pass, want 50", n)
				}
				if n := allowed(t, l, "b", 100); n != 50 {
					t.Errorf("%d of another key pass, want 50", n)
				}
				time.Sleep(20 * time.Second)
				wait, news := l.Take(t.Context(), "a")
				if wait != 40*time.Second || news {
					t.Errorf("wait %v, news: %v", wait, news)
				}
				time.Sleep(wait - time.Nanosecond)
				if n := allowed(t, l, "a", 1); n != 0 {
					t.Error("the window is over too early")
				}
				time.Sleep(time.Nanosecond)
				if n := allowed(t, l, "a", 100); n != 50 {
					t.Errorf("%d pass in the next window, want 50", n)
				}
			})
		})
	}
}

func TestARefusalIsNewsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limit.NewCounts().Limit("x", 2, time.Minute)
		for window := range 2 {
			allowed(t, l, "a", 2)
			for i := range 3 {
				if _, news := l.Take(t.Context(), "a"); news != (i == 0) {
					t.Errorf("window %d, refusal %d: news %v", window, i, news)
				}
			}
			time.Sleep(time.Minute)
		}
	})
}

func TestOnlyWhatWasTakenCanBeReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limit.NewCounts().Limit("x", 2, time.Minute)
		l.Return("a")
		if n := allowed(t, l, "a", 5); n != 2 {
			t.Errorf("%d pass after nothing was returned, want 2", n)
		}
		l.Return("a")
		if n := allowed(t, l, "a", 5); n != 1 || l.Left("a") != 0 || l.Wait("a") != time.Minute {
			t.Errorf("%d pass after one was returned; %d are left for %v", n, l.Left("a"), l.Wait("a"))
		}
		time.Sleep(time.Minute)
		allowed(t, l, "b", 1)
		l.Return("b")
		l.Return("b") // once too often
		if n := allowed(t, l, "b", 5); n != 2 {
			t.Errorf("%d pass after one was returned twice, want 2", n)
		}
		l.Return("a") // of a window that is over
		if l.Left("a") != 2 || l.Wait("a") != 0 || allowed(t, l, "a", 5) != 2 {
			t.Error("the next window has another number")
		}
	})
}

// Whoever makes up keys that come to nothing pushes out none that count.
func TestWhatWasReturnedIsForgotten(t *testing.T) {
	l := limit.NewCounts().Limit("x", 3, time.Hour)
	if n := allowed(t, l, "alice", 5); n != 3 {
		t.Fatalf("%d pass", n)
	}
	for i := range 100000 {
		key := strconv.Itoa(i)
		if wait, _ := l.Take(t.Context(), key); wait > 0 {
			t.Fatalf("key %s waits %v", key, wait)
		}
		l.Return(key)
	}
	if n := allowed(t, l, "alice", 5); n != 0 {
		t.Errorf("%d more pass", n)
	}
}

// However takes and returns of a key meet, what is kept is no more than the limit.
func TestTakesAndReturnsAtOnce(t *testing.T) {
	const number = 5
	l := limit.NewCounts().Limit("x", number, time.Hour)
	var kept atomic.Int64
	var all sync.WaitGroup
	for worker := range 16 {
		all.Go(func() {
			for i := range 2000 {
				if wait, _ := l.Take(t.Context(), "a"); wait > 0 {
					continue
				}
				if (i+worker)%400 == 0 {
					kept.Add(1)
					continue
				}
				l.Return("a")
			}
		})
	}
	all.Wait()
	kept.Add(int64(allowed(t, l, "a", 2*number)))
	if kept.Load() != number {
		t.Errorf("%d are kept, want %d", kept.Load(), number)
	}
}

func TestNoLimit(t *testing.T) {
	l := limit.NewCounts().Limit("x", 0, time.Minute)
	if l != nil || allowed(t, l, "a", 1000) != 1000 || l.Wait("a") != 0 || l.Left("a") < 1000 {
		t.Error("a limit of zero limits")
	}
	l.Return("a")
}

// Counts outlive the limits, which are made anew with each configuration.
func TestCountsSurviveAReload(t *testing.T) {
	for name, counts := range map[string]*limit.Counts{"of one process": limit.NewCounts(), "of several": node(newShared(t))} {
		allowed(t, counts.Limit("x", 10, time.Hour), "a", 7)
		if n := allowed(t, counts.Limit("x", 10, time.Hour), "a", 10); n != 3 {
			t.Errorf("%s: %d pass after a reload, want 3", name, n)
		}
		if n := allowed(t, counts.Limit("x", 20, time.Hour), "a", 30); n != 20 {
			t.Errorf("%s: %d pass by other settings, want 20", name, n)
		}
		if n := allowed(t, counts.Limit("y", 10, time.Hour), "a", 30); n != 10 {
			t.Errorf("%s: %d pass of something else, want 10", name, n)
		}
	}
}

func TestExplain(t *testing.T) {
	c := limit.NewCounts()
	for want, l := range map[string]*limit.Limit{
		"rate_limit mcp allows 600 in 1m; try again in 13 s":     c.Limit("mcp", 600, time.Minute),
		"rate_limit register allows 20 in 1h; try again in 13 s": c.Limit("register", 20, time.Hour),
		"rate_limit token allows 5 in 1h30m; try again in 13 s":  c.Limit("token", 5, 90*time.Minute),
		"rate_limit login allows 1 in 30s; try again in 13 s":    c.Limit("login", 1, 30*time.Second),
		"rate_limit login allows 1 in 1m30s; try again in 13 s":  c.Limit("login", 1, 90*time.Second),
	} {
		if got := l.Explain(12*time.Second + time.Millisecond); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if limit.Seconds(0) != 1 || limit.Seconds(time.Nanosecond) != 1 || limit.Seconds(time.Second) != 1 || limit.Seconds(1001*time.Millisecond) != 2 {
		t.Error("seconds are not rounded up to at least one")
	}
}

// BenchmarkTake is what a limit costs a request.
func BenchmarkTake(b *testing.B) {
	for name, l := range map[string]*limit.Limit{
		"off": nil, "on": limit.NewCounts().Limit("mcp", 1<<30, time.Hour), "shared": node(shared{memstore.New(0)}).Limit("mcp", 1<<30, time.Hour),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if wait, _ := l.Take(b.Context(), "https://mcp.example.com alice mcp_ABCDEFGHIJKLMNOPQRSTUVWXYZ"); wait > 0 {
					b.Fatal("there is a wait")
				}
			}
		})
	}
}
