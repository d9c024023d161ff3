package outbound

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/bounded"
)

// How much strangers can make this node fetch. Each number is also how many may
// come at once.
const (
	perMinute        = 60 // in all
	perMinuteHost    = 10 // from one name
	perMinuteNetwork = 30 // from one address, whatever the names; many sites share those of large hosters

	// slots is how many fetches are under way at a time.
	slots = 16

	// entries bounds how many names, addresses and pauses are remembered.
	entries = 4096
)

// Reasons not to fetch at the moment.
var (
	errBusy   = errors.New("too many documents are being fetched at the moment")
	errPaused = errors.New("the last try failed a moment ago")
)

// limits counts fetches.
type limits struct {
	all      *rate.Limiter
	mu       sync.Mutex // of making buckets
	hosts    *bounded.Cache
	networks *bounded.Cache
}

func newLimits() *limits {
	return &limits{all: bucket(perMinute), hosts: bounded.NewCache(entries), networks: bounded.NewCache(entries)}
}

func bucket(n int) *rate.Limiter { return rate.NewLimiter(rate.Every(time.Minute/time.Duration(n)), n) }

// host counts a fetch from a name. One that the name may not have does not count
// for all.
func (l *limits) host(name string) error {
	if !l.take(l.hosts, name, perMinuteHost) || !l.all.Allow() {
		return errBusy
	}
	return nil
}

// address counts a connection to an address.
func (l *limits) address(addr netip.Addr) error {
	if !l.take(l.networks, network(addr), perMinuteNetwork) {
		return errBusy
	}
	return nil
}

func (l *limits) take(c *bounded.Cache, key string, n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	found, ok := c.Get(key)
	if !ok {
		found = bucket(n)
	}
	// A bucket that nobody touches for two minutes is full again.
	c.Set(key, found, 2*time.Minute)
	return found.(*rate.Limiter).Allow()
}
