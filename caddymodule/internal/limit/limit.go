package limit

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/bounded"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// entries bounds how many keys a limit counts on a node, and how many records it
// makes in the store within a window.
const entries = 16384

// Counts is what has been counted. It belongs to the state that outlives reloads
// of the configuration. It is safe for concurrent use.
type Counts struct {
	store  store.Store // nil to count for this process alone
	prefix string      // of the records
	key    []byte      // of the MAC that names records
	log    *zap.Logger

	silent atomic.Int64 // until when the store is not asked, as it did not answer; Unix nanoseconds

	mu     sync.Mutex
	caches map[string]*bounded.Cache // by the name and the settings of a limit, or what else is remembered
}

// NewCounts returns counts of this process alone.
func NewCounts() *Counts { return &Counts{log: zap.NewNop(), caches: map[string]*bounded.Cache{}} }

// Share returns counts that are shared with the other nodes of a store, if it has
// several ([store.Shared]). The key names records in the store below prefix in a
// way that tells nothing of who is counted.
func Share(s store.Store, prefix string, key []byte, log *zap.Logger) *Counts {
	c := NewCounts()
	c.log = log
	if store.IsShared(s) {
		c.store, c.prefix, c.key = s, prefix+"limit/", key
	}
	return c
}

// Limit allows something a number of times in a window, for each key. The window
// of a key begins when it is first counted. A nil Limit allows everything.
type Limit struct {
	counts  *Counts
	cache   *bounded.Cache
	shared  bool
	records *rate.Limiter // of the store

	name   string // what is limited, as the configuration calls it
	scope  string // name and settings, which tell counts of different limits apart
	max    int
	window time.Duration
}

// Limit returns a limit that all nodes enforce together. A number of zero means no
// limit, which is nil.
func (c *Counts) Limit(name string, number int, window time.Duration) *Limit {
	return c.limit(name, number, window, c.store != nil)
}

// NodeLimit returns a limit of this node, whatever others do.
func (c *Counts) NodeLimit(name string, number int, window time.Duration) *Limit {
	return c.limit(name, number, window, false)
}

func (c *Counts) limit(name string, number int, window time.Duration, shared bool) *Limit {
	if number <= 0 {
		return nil
	}
	l := &Limit{
		counts: c, shared: shared, name: name, scope: fmt.Sprintf("%s %d %s", name, number, window), max: number, window: window,
		records: rate.NewLimiter(rate.Limit(entries/window.Seconds()), entries),
	}
	l.cache = c.cache(l.scope)
	return l
}

// cache returns what is remembered under a name, also by the configuration before.
func (c *Counts) cache(name string) *bounded.Cache {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.caches[name] == nil {
		c.caches[name] = bounded.NewCache(entries)
	}
	return c.caches[name]
}

// counter is what a node knows of a key. Its zero value is one whose window is
// over.
type counter struct {
	mu     sync.Mutex
	ends   time.Time // of the window
	left   int       // this node may still allow
	taken  int       // this node has allowed
	leased int       // all nodes have, or may still, as far as this one knows
	step   int       // how much this node leases next
	told   bool      // a refusal has been reported
	gone   bool      // another counter takes its place
}

// Take counts one. When there is none left it returns for how long to wait, at
// most the window, and whether that is news: the first refusal of the key on this
// node in the window.
func (l *Limit) Take(ctx context.Context, key string) (wait time.Duration, news bool) {
	if l == nil {
		return 0, false
	}
	c := l.counter(key)
	defer c.mu.Unlock()
	now := time.Now()
	if !now.Before(c.ends) {
		l.begin(key, c, now)
	}
	if c.left == 0 && c.leased < l.max {
		l.lease(ctx, key, c, now)
	}
	if c.left > 0 {
		c.left--
		c.taken++
		return 0, false
	}
	news, c.told = !c.told, true
	return c.ends.Sub(now), news
}

// begin starts a window.
func (l *Limit) begin(key string, c *counter, now time.Time) {
	c.ends, c.left, c.taken, c.leased, c.step, c.told = now.Add(l.window), 0, 0, 0, 1, false
	// Twice as long as needed, so that it is there for whoever looks late.
	l.cache.Set(key, c, 2*l.window)
}

// counter returns the counter of a key, and locks it.
func (l *Limit) counter(key string) *counter {
	for {
		c := l.find(key)
		c.mu.Lock()
		if !c.gone {
			return c
		}
		l.forget(key, c)
		c.mu.Unlock()
	}
}

// forget removes a counter that is gone, if it is there.
func (l *Limit) forget(key string, c *counter) {
	l.counts.mu.Lock()
	defer l.counts.mu.Unlock()
	if found, ok := l.cache.Get(key); ok && found == any(c) {
		l.cache.Set(key, nil, 0)
	}
}

// find returns the counter of a key. The lock makes many first requests at once
// share one.
func (l *Limit) find(key string) *counter {
	if found, ok := l.cache.Get(key); ok {
		return found.(*counter)
	}
	l.counts.mu.Lock()
	defer l.counts.mu.Unlock()
	if found, ok := l.cache.Get(key); ok {
		return found.(*counter)
	}
	c := &counter{}
	l.cache.Set(key, c, 2*l.window)
	return c
}

// Return gives back what was taken. A key for which nothing is left to remember is
// forgotten: whoever makes up keys that come to nothing would push out those that
// count. What was leased from the store is kept, as it is not given back there.
func (l *Limit) Return(key string) {
	if l == nil {
		return
	}
	c := l.counter(key)
	defer c.mu.Unlock()
	if time.Now().Before(c.ends) && c.taken > 0 {
		c.taken--
		c.left++
	}
	if c.taken == 0 && !l.shared {
		c.gone = true
		l.forget(key, c)
	}
}

// Left returns how many remain for a key, as far as this node knows.
func (l *Limit) Left(key string) int {
	if l == nil {
		return math.MaxInt
	}
	c := l.counter(key)
	defer c.mu.Unlock()
	if !time.Now().Before(c.ends) {
		return l.max
	}
	return c.left + max(l.max-c.leased, 0)
}

// Wait returns how long Take would say to wait, as far as this node knows. Nothing
// is counted.
func (l *Limit) Wait(key string) time.Duration {
	if l == nil || l.Left(key) > 0 {
		return 0
	}
	c := l.counter(key)
	defer c.mu.Unlock()
	return max(time.Until(c.ends), 0)
}

// Explain says in a sentence for people what the limit is and when to come back.
func (l *Limit) Explain(wait time.Duration) string {
	window := l.window.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(window, zero) {
			window = window[:len(window)-2] // 1h0m0s is 1h
		}
	}
	return fmt.Sprintf("rate_limit %s allows %d in %s; try again in %d s", l.name, l.max, window, Seconds(wait))
}

// Seconds is a wait as the Retry-After header has it.
func Seconds(wait time.Duration) int { return max(int(math.Ceil(wait.Seconds())), 1) }
