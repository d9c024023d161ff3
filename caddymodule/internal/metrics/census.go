package metrics

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// A count goes through the whole store, so it happens at most once in
// censusInterval, takes one part in censusShare of the time, and is given up after
// censusTimeout.
const (
	censusInterval = time.Minute
	censusShare    = 100
	censusTimeout  = time.Minute
)

// Census counts the records of a store behind the back of scrapes. While nobody
// asks, nothing is counted.
type Census struct {
	store    store.Store
	prefixes func() []string // of the issuers
	wanted   chan struct{}
	latest   atomic.Pointer[Records]
}

// NewCensus returns a census of the issuers whose keys start with the prefixes.
func NewCensus(s store.Store, prefixes func() []string) *Census {
	return &Census{store: s, prefixes: prefixes, wanted: make(chan struct{}, 1)}
}

// Latest returns the last count, or nil when there is none, and asks for a new
// one.
func (c *Census) Latest() *Records {
	latest := c.latest.Load()
	select {
	case c.wanted <- struct{}{}:
	default:
	}
	return latest
}

// Follow counts when somebody wants to know, until ctx is done.
func (c *Census) Follow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wanted:
		}
		begin := time.Now()
		c.latest.Store(c.count(ctx))
		pause := time.NewTimer(max(censusInterval, (censusShare-1)*time.Since(begin)))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}

// count returns nil when it cannot be completed.
func (c *Census) count(ctx context.Context) *Records {
	ctx, cancel := context.WithTimeout(ctx, censusTimeout)
	defer cancel()
	out := &Records{}
	for _, prefix := range c.prefixes() {
		for kind, n := range map[string]*int{"client/": &out.Clients, "grant/": &out.Grants, "session/": &out.Sessions} {
			for _, err := range c.store.Keys(ctx, prefix+kind) {
				if err != nil {
					return nil
				}
				*n++
			}
		}
	}
	return out
}
