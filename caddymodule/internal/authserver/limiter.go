package authserver

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/bounded"
)

// limiterEntries bounds how many accounts and how many addresses are counted.
const limiterEntries = 16384

// loginLimiter slows down guessing. An attempt counts against the account and
// against the peer, whatever other accounts or addresses do; the two are kept
// apart so that a flood of one kind cannot push out the other.
type loginLimiter struct {
	max      int
	window   time.Duration
	mu       sync.Mutex // of making buckets
	accounts *bounded.Cache
	peers    *bounded.Cache
}

func newLoginLimiter(tries int, window time.Duration) *loginLimiter {
	return &loginLimiter{
		max: tries, window: window,
		accounts: bounded.NewCache(limiterEntries), peers: bounded.NewCache(limiterEntries),
	}
}

// attempt is one try to sign in that has been counted.
type attempt struct {
	account, peer *rate.Limiter
}

// begin counts a try. When there is none left it returns for how long to wait,
// and nothing is counted.
func (l *loginLimiter) begin(username, peer string) (*attempt, time.Duration) {
	if l.max <= 0 {
		return &attempt{}, 0
	}
	now := time.Now()
	// The peer comes first: one that is held back adds nothing to the accounts.
	a := &attempt{peer: l.bucket(l.peers, peerKey(peer))}
	if !a.peer.AllowN(now, 1) {
		return nil, pause(a.peer, now)
	}
	a.account = l.bucket(l.accounts, accountKey(username))
	if !a.account.AllowN(now, 1) {
		a.peer.AllowN(now, -1)
		return nil, pause(a.account, now)
	}
	return a, 0
}

// succeeded gives the try back: people who know their password are not counted.
func (a *attempt) succeeded() {
	for _, b := range []*rate.Limiter{a.account, a.peer} {
		if b != nil {
			b.AllowN(time.Now(), -1)
		}
	}
}

// left is how many tries remain, as the sign-in page shows them.
func (a *attempt) left() int {
	if a.account == nil {
		return 0
	}
	return max(int(min(a.account.Tokens(), a.peer.Tokens())), 0)
}

// bucket returns the count of a key. The lock makes many first tries at once
// share one.
func (l *loginLimiter) bucket(c *bounded.Cache, key string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	found, ok := c.Get(key)
	if !ok {
		found = rate.NewLimiter(rate.Limit(float64(l.max)/l.window.Seconds()), l.max)
	}
	// A bucket that nobody touches for two windows is full again.
	c.Set(key, found, 2*l.window)
	return found.(*rate.Limiter)
}

// pause is how long it takes until a try is free. It is never zero, since others
// may take that try first.
func pause(b *rate.Limiter, now time.Time) time.Duration {
	missing := 1 - b.TokensAt(now)
	return max(time.Duration(missing/float64(b.Limit())*float64(time.Second)), time.Second)
}

// accountKey folds the spellings of a name, so that they share one count. What is
// too long for a name is cut, as it would fill the memory.
func accountKey(username string) string {
	return strings.ToLower(strings.TrimSpace(truncate(username, maxUsername)))
}

// peerKey is the address of the peer; of IPv6 the /64 that one customer has.
func peerKey(peer string) string {
	addr, err := netip.ParseAddr(peer)
	if err != nil {
		withPort, err := netip.ParseAddrPort(peer)
		if err != nil {
			return peer
		}
		addr = withPort.Addr()
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.String()
		}
	}
	return addr.String()
}
