package bounded_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/bounded"
)

func want(t *testing.T, c *bounded.Cache, key string, value any) {
	t.Helper()
	got, ok := c.Get(key)
	if ok != (value != nil) || got != value {
		t.Errorf("%s is %v, %v; want %v", key, got, ok, value)
	}
}

func TestCacheRemembersForTheLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := bounded.NewCache(10)
		c.Set("a", 1, time.Minute)
		c.Set("b", 2, time.Hour)
		time.Sleep(time.Minute)
		want(t, c, "a", 1)
		time.Sleep(time.Nanosecond)
		want(t, c, "a", nil)
		want(t, c, "b", 2)
		want(t, c, "c", nil)
	})
}

func TestCacheTakesTheLastValue(t *testing.T) {
	c := bounded.NewCache(10)
	c.Set("a", 1, time.Minute)
	c.Set("a", 2, time.Minute)
	want(t, c, "a", 2)
	if c.Len() != 1 {
		t.Errorf("%d entries, want one", c.Len())
	}
	for _, lifetime := range []time.Duration{0, -time.Second} {
		c.Set("a", 3, time.Minute)
		c.Set("a", 4, lifetime)
		want(t, c, "a", nil)
	}
}

func TestCacheHoldsItsBoundUnderAFlood(t *testing.T) {
	for _, entries := range []int{-1, 0, 1, 2, 100} {
		c := bounded.NewCache(entries)
		var wg sync.WaitGroup
		for flooder := range 8 {
			wg.Go(func() {
				for i := range 1000 {
					c.Set(fmt.Sprint(flooder, "/", i), i, time.Hour)
					c.Get(fmt.Sprint(flooder, "/", rand.IntN(i+1)))
					if bound := 2 * max(entries, 1); c.Len() > bound {
						t.Errorf("%d entries, want at most %d", c.Len(), bound)
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

func TestEntriesInUseSurviveAFlood(t *testing.T) {
	const entries = 100
	c := bounded.NewCache(entries)
	c.Set("used", 1, time.Hour)
	c.Set("idle", 2, time.Hour)
	for i := range 20 * entries {
		c.Set(fmt.Sprint("flood", i), i, time.Hour)
		if i%(entries/2) == 0 {
			want(t, c, "used", 1)
		}
	}
	want(t, c, "idle", nil)
}

func TestAsManyEntriesAsWereAskedForStayInUse(t *testing.T) {
	const entries = 64
	c := bounded.NewCache(entries)
	for i := range entries {
		c.Set(fmt.Sprint(i), i, time.Hour)
	}
	for range 10 {
		for i := range entries {
			want(t, c, fmt.Sprint(i), i)
		}
		c.Set("0", 0, time.Hour) // makes the halves change places now and then
	}
}

func TestMovingAnEntryKeepsItsExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := bounded.NewCache(2)
		c.Set("a", 1, time.Minute)
		for i := range 10 {
			time.Sleep(5 * time.Second)
			c.Set(fmt.Sprint("flood", i), i, time.Hour)
			want(t, c, "a", 1)
		}
		time.Sleep(10*time.Second + time.Nanosecond)
		want(t, c, "a", nil)
	})
}

// A new value with a short life stands before an old one with a long life in the
// other half.
func TestAnOldValueDoesNotComeBackToLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := bounded.NewCache(2)
		c.Set("a", "old", time.Hour)
		c.Set("x", 0, time.Hour)
		c.Set("y", 0, time.Hour) // "a" is in the old half now
		c.Set("a", "new", time.Second)
		want(t, c, "a", "new")
		time.Sleep(2 * time.Second)
		want(t, c, "a", nil)
	})
}

func TestCacheIsSafeForConcurrentUse(t *testing.T) {
	c := bounded.NewCache(8)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				key := fmt.Sprint((i + worker) % 24)
				if v, ok := c.Get(key); ok && v != key {
					t.Errorf("%s is %v", key, v)
				}
				c.Set(key, key, time.Hour)
			}
		})
	}
	wg.Wait()
}

// A value that takes the place of another one is there all the time, also while the
// halves change places.
func TestAReaderNeverFindsNothingInPlaceOfAValue(t *testing.T) {
	c := bounded.NewCache(4)
	c.Set("a", 0, time.Hour)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 20000 {
			c.Set("a", i, time.Hour)
			c.Set(fmt.Sprint("flood", i%3), i, time.Hour)
		}
	}()
	for {
		select {
		case <-done:
			return
		default:
		}
		if _, ok := c.Get("a"); !ok {
			t.Fatal("it is gone for a moment")
		}
	}
}

func TestWhatIsRemovedStaysAway(t *testing.T) {
	c := bounded.NewCache(2)
	for range 2000 {
		c.Set("a", 1, time.Hour)
		c.Set("x", 0, time.Hour)
		c.Set("y", 0, time.Hour) // "a" is in the old half now
		var readers sync.WaitGroup
		for range 4 {
			readers.Go(func() { c.Get("a") })
		}
		c.Set("a", nil, 0)
		readers.Wait()
		want(t, c, "a", nil)
	}
}

func BenchmarkGet(b *testing.B) {
	c := bounded.NewCache(1024)
	for i := range 1024 {
		c.Set(fmt.Sprint(i), i, time.Hour)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := c.Get("512"); !ok {
			b.Fatal("lost")
		}
	}
}
