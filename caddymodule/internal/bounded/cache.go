// Package bounded is go-cache with a bound on its entries, for everything that
// is remembered in the process and could otherwise be made to grow from outside.
package bounded

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	gocache "github.com/patrickmn/go-cache"
)

// Cache remembers values for a time. When its young half is full it becomes the
// old half and the previous old half is dropped, so an entry that is in use
// survives by being copied to the young half, and no request ever pays for a
// sweep. It is safe for concurrent use.
type Cache struct {
	mu       sync.Mutex // held by everything that changes the cache
	halves   atomic.Pointer[halves]
	removals atomic.Uint64 // counts what was removed before its time
	size     int           // of each half
}

type halves struct{ young, old *gocache.Cache }

// NewCache returns a cache for the given number of entries. Each half can hold as
// many, so that this many entries stay in use without pushing each other out;
// the cache as a whole never holds more than twice the number.
func NewCache(entries int) *Cache {
	c := &Cache{size: max(entries, 1)}
	c.halves.Store(&halves{young: newHalf(), old: newHalf()})
	return c
}

// newHalf makes a go-cache without the janitor: its goroutine would end only
// with a garbage collection, and halves are dropped whole.
func newHalf() *gocache.Cache { return gocache.New(gocache.NoExpiration, 0) }

// Get returns the value at key unless it has expired or was dropped.
func (c *Cache) Get(key string) (any, bool) {
	before := c.removals.Load()
	h := c.halves.Load()
	if v, ok := h.young.Get(key); ok {
		return v, true
	}
	v, expires, ok := h.old.GetWithExpiration(key)
	if !ok {
		return c.halves.Load().young.Get(key) // where somebody may have moved it meanwhile
	}
	return c.keep(before, key, v, time.Until(expires)), true
}

// keep moves an entry from the old half to the young one and returns the value
// that is there then. The key is copied: the caller's may be a piece of something
// large, such as the header of a request. Nothing is moved when something was
// removed since before: it may be this entry, which would come back to life.
func (c *Cache) keep(before uint64, key string, v any, lifetime time.Duration) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	if newer, ok := c.halves.Load().young.Get(key); ok {
		return newer // somebody has set it meanwhile
	}
	if c.removals.Load() != before {
		return v
	}
	c.set(strings.Clone(key), v, lifetime)
	return v
}

// Set keeps the value at key for lifetime in place of the one that was there. A
// lifetime of zero or less keeps nothing new and nothing old.
func (c *Cache) Set(key string, v any, lifetime time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set(key, v, lifetime)
}

// set is Set under the lock. Whoever reads meanwhile finds the old value or the new
// one, and never nothing: what is looked up and made when it is not there would be
// there twice. Were a copy left in the old half, it would come back to life when the
// new entry expires.
func (c *Cache) set(key string, v any, lifetime time.Duration) {
	h := c.halves.Load()
	if lifetime <= 0 {
		c.removals.Add(1)
		h.old.Delete(key)
		h.young.Delete(key)
		return
	}
	if _, there := h.young.Get(key); there || h.young.ItemCount() < c.size {
		h.young.Set(key, v, lifetime)
		h.old.Delete(key)
		return
	}
	next := &halves{young: newHalf(), old: h.young}
	next.young.Set(key, v, lifetime)
	next.old.Delete(key) // one that has expired
	c.halves.Store(next)
}

// Clear drops all entries.
func (c *Cache) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removals.Add(1)
	c.halves.Store(&halves{young: newHalf(), old: newHalf()})
}

// Len returns the number of entries, expired ones included.
func (c *Cache) Len() int {
	h := c.halves.Load()
	return h.young.ItemCount() + h.old.ItemCount()
}
