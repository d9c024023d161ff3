package token

import (
	"sync"
	"time"

	gocache "github.com/patrickmn/go-cache"
)

// boundedCache is a go-cache with a bound on its entries. When the young half
// is full it becomes the old half and the previous old half is dropped, so an
// entry that is in use survives by being copied to the young half, and no
// request ever pays for a sweep.
type boundedCache struct {
	mu    sync.RWMutex
	young *gocache.Cache
	old   *gocache.Cache
	half  int
}

func newBoundedCache(entries int) *boundedCache {
	return &boundedCache{young: newGoCache(), old: newGoCache(), half: max(entries/2, 1)}
}

// newGoCache makes a cache without the janitor: its goroutine would end only
// with a garbage collection, and halves are dropped whole.
func newGoCache() *gocache.Cache { return gocache.New(gocache.NoExpiration, 0) }

func (c *boundedCache) get(key string) (any, bool) {
	c.mu.RLock()
	young, old := c.young, c.old
	c.mu.RUnlock()
	if v, ok := young.Get(key); ok {
		return v, true
	}
	v, expires, ok := old.GetWithExpiration(key)
	if ok {
		c.set(key, v, time.Until(expires))
	}
	return v, ok
}

func (c *boundedCache) set(key string, v any, lifetime time.Duration) {
	if lifetime <= 0 {
		return
	}
	c.mu.Lock()
	if c.young.ItemCount() >= c.half {
		c.old, c.young = c.young, newGoCache()
	}
	young := c.young
	c.mu.Unlock()
	young.Set(key, v, lifetime)
}
