package authserver

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/bounded"
)

// triesEntries bounds how many accounts and how many addresses are counted.
const triesEntries = 16384

// Tries remembers guesses of passwords and client secrets. It belongs to the
// state that outlives reloads of the configuration. Accounts and peers are kept
// apart, so that a flood of one kind cannot push out the other.
type Tries struct {
	mu       sync.Mutex // of making buckets
	accounts *bounded.Cache
	peers    *bounded.Cache

	// What all peers together may do about devices.
	devices, userCodes *rate.Limiter
}

// NewTries returns an empty memory.
func NewTries() *Tries {
	return &Tries{
		accounts: bounded.NewCache(triesEntries), peers: bounded.NewCache(triesEntries),
		devices: forAll(allDevices, deviceWindow), userCodes: forAll(allUserCodes, userCodeWindow),
	}
}

// limiter slows down guessing. A try counts against the account and against the
// peer, whatever other accounts or addresses do.
type limiter struct {
	tries  *Tries
	kind   string // what is guessed; also tells limits of different settings apart
	max    int    // 0 for no limit
	window time.Duration
}

func newLimiter(tries *Tries, kind string, limit int, window time.Duration) *limiter {
	return &limiter{tries: tries, kind: fmt.Sprintf("%s %d %s ", kind, limit, window), max: limit, window: window}
}

// wait returns for how long the account or the peer is held back; nothing is
// counted.
func (l *limiter) wait(account, peer string) time.Duration {
	if l.max <= 0 {
		return 0
	}
	now := time.Now()
	for _, b := range []*rate.Limiter{l.bucket(l.tries.peers, peerKey(peer)), l.bucket(l.tries.accounts, accountKey(account))} {
		if b.TokensAt(now) < 1 {
			return pause(b, now)
		}
	}
	return 0
}

// attempt is one try that has been counted.
type attempt struct {
	account, peer *rate.Limiter
}

// begin counts a try. When there is none left it returns for how long to wait,
// and nothing is counted.
func (l *limiter) begin(account, peer string) (*attempt, time.Duration) {
	if l.max <= 0 {
		return &attempt{}, 0
	}
	now := time.Now()
	// The peer comes first: one that is held back adds nothing to the accounts.
	a := &attempt{peer: l.bucket(l.tries.peers, peerKey(peer))}
	if !a.peer.AllowN(now, 1) {
		return nil, pause(a.peer, now)
	}
	a.account = l.bucket(l.tries.accounts, accountKey(account))
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
func (l *limiter) bucket(c *bounded.Cache, key string) *rate.Limiter {
	key = l.kind + key
	l.tries.mu.Lock()
	defer l.tries.mu.Unlock()
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
