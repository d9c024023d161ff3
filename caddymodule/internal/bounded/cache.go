// Package bounded is go-cache with a bound on its entries, for everything that
// is remembered in the process and could otherwise be made to grow from outside.
package bounded

import (
	"sync"
	"time"

	gocache "github.com/patrickmn/go-cache"
)

// Cache remembers values for a time. When its young half is full it becomes the
// old half and the previous old half is dropped, so an entry that is in use
// survives by being copied to the young half, and no request ever pays for a
// sweep. It is safe for concurrent use.
type Cache struct {
	mu    sync.RWMutex
	young *gocache.Cache
	old   *gocache.Cache
	half  int
}

// NewCache returns a cache of at most about the given number of entries.
func NewCache(entries int) *Cache {
	return &Cache{young: newHalf(), old: newHalf(), half: max(entries/2, 1)}
}

// newHalf makes a go-cache without the janitor: its goroutine would end only
// with a garbage collection, and halves are dropped whole.
func newHalf() *gocache.Cache { return gocache.New(gocache.NoExpiration, 0) }

// Get returns the value at key unless it has expired or was dropped.
func (c *Cache) Get(key string) (any, bool) {
	c.mu.RLock()
	young, old := c.young, c.old
	c.mu.RUnlock()
	if v, ok := young.Get(key); ok {
		return v, true
	}
	v, expires, ok := old.GetWithExpiration(key)
	if ok {
		c.Set(key, v, time.Until(expires))
	}
	return v, ok
}

// Set keeps the value at key for lifetime. A lifetime of zero or less keeps
// nothing.
func (c *Cache) Set(key string, v any, lifetime time.Duration) {
	if lifetime <= 0 {
		return
	}
	c.mu.Lock()
	if c.young.ItemCount() >= c.half {
		c.old, c.young = c.young, newHalf()
	}
	young := c.young
	c.mu.Unlock()
	young.Set(key, v, lifetime)
}

// Len returns the number of entries, expired ones included.
func (c *Cache) Len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.young.ItemCount() + c.old.ItemCount()
}
