package limit

import (
	"context"
	"net/netip"
	"strings"
	"time"
)

// Tries slow down guessing. A try counts against the account and against the
// peer, whatever other accounts or addresses do. Those who know the secret are not
// counted.
type Tries struct{ accounts, peers *Limit }

// Tries returns a limit of tries that all nodes enforce together.
func (c *Counts) Tries(name string, number int, window time.Duration) *Tries {
	return &Tries{c.Limit(name+" account", number, window), c.Limit(name+" peer", number, window)}
}

// NodeTries returns a limit of tries at this node.
func (c *Counts) NodeTries(name string, number int, window time.Duration) *Tries {
	return &Tries{c.NodeLimit(name+" account", number, window), c.NodeLimit(name+" peer", number, window)}
}

// Try is one try that has been counted.
type Try struct {
	tries         *Tries
	account, peer string
}

// Begin counts a try. When there is none left it returns for how long to wait, and
// nothing is counted.
func (t *Tries) Begin(ctx context.Context, account, peer string) (*Try, time.Duration) {
	try := &Try{t, Account(account), Peer(peer)}
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
	return max(t.peers.Wait(Peer(peer)), t.accounts.Wait(Account(account)))
}

// Succeeded gives the try back.
func (t *Try) Succeeded() {
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
