package limit

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/bounded"
)

// Tries slow down guessing. A try counts against the account and against the
// peer, whatever other accounts or addresses do. Those who know the secret are not
// counted.
//
// A peer from which somebody has proven to be the account has a count of the account
// of its own. Otherwise a few tries in each minute, from anywhere, would be enough to
// keep somebody out for ever.
type Tries struct {
	accounts, peers *Limit
	proven          *bounded.Cache // of accounts with peers
}

// provenFor is how long a peer is remembered, as far as the memory of the node
// reaches.
const provenFor = 30 * 24 * time.Hour

// Tries returns a limit of tries that all nodes enforce together.
func (c *Counts) Tries(name string, number int, window time.Duration) *Tries {
	return &Tries{c.Limit(name+" account", number, window), c.Limit(name+" peer", number, window), c.cache(name + " proven")}
}

// NodeTries returns a limit of tries at this node.
func (c *Counts) NodeTries(name string, number int, window time.Duration) *Tries {
	return &Tries{c.NodeLimit(name+" account", number, window), c.NodeLimit(name+" peer", number, window), c.cache(name + " proven")}
}

// Try is one try that has been counted.
type Try struct {
	tries         *Tries
	account, peer string // the keys that it is counted for
	pair          string // of both
}

// Begin counts a try. When there is none left it returns for how long to wait, and
// nothing is counted.
func (t *Tries) Begin(ctx context.Context, account, peer string) (*Try, time.Duration) {
	try := t.try(account, peer)
	// The peer comes first: one that is held back adds nothing to the accounts.
	if wait, _ := t.peers.Take(ctx, try.peer); wait > 0 {
		return nil, wait
	}
	if wait, _ := t.accounts.Take(ctx, try.account); wait > 0 {
		t.peers.Return(try.peer)
		return nil, wait
	}
	return try, 0
}

// Wait returns for how long the account or the peer is held back. Nothing is
// counted.
func (t *Tries) Wait(account, peer string) time.Duration {
	try := t.try(account, peer)
	return max(t.peers.Wait(try.peer), t.accounts.Wait(try.account))
}

// try finds out what a try counts for.
func (t *Tries) try(account, peer string) *Try {
	try := &Try{tries: t, account: Account(account), peer: Peer(peer)}
	try.pair = try.account + "\x00" + try.peer
	if _, ok := t.proven.Get(try.pair); ok {
		try.account = try.pair
	}
	return try
}

// Succeeded gives the try back, as the account has been proven.
func (t *Try) Succeeded() {
	t.tries.proven.Set(t.pair, nil, provenFor)
	t.Back()
}

// Back gives the try back, as nothing came of it.
func (t *Try) Back() {
	t.tries.peers.Return(t.peer)
	t.tries.accounts.Return(t.account)
}

// Left is how many tries remain, as pages show them; zero when there is no limit.
func (t *Try) Left() int {
	if t.tries.peers == nil {
		return 0
	}
	return min(t.tries.peers.Left(t.peer), t.tries.accounts.Left(t.account))
}

// maxAccount bounds the name of an account in bytes.
const maxAccount = 256

// Account folds the spellings of a name, so that they share one count. What is too
// long for a name is cut, as it would fill the memory.
func Account(name string) string {
	if len(name) > maxAccount {
		name = name[:maxAccount]
	}
	return strings.ToLower(strings.TrimSpace(strings.ToValidUTF8(name, "")))
}

// Peer is the address of a peer; of IPv6 the /64 that one customer has.
func Peer(address string) string {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		withPort, err := netip.ParseAddrPort(address)
		if err != nil {
			return address
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
