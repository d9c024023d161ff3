package audit

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/limit"
)

// Strangers can make as many refusals as they can make requests. So many lines are
// written in a window for one address and for all; the others are counted. With
// lines of some 400 bytes that is less than a gigabyte a day.
const (
	window   = time.Minute
	peerMost = 60
	allMost  = 1200
)

// bound keeps a flood of refusals from filling a disk.
type bound struct {
	peers, all *limit.Limit
	suppressed atomic.Int64
}

func newBound() *bound {
	counts := limit.NewCounts()
	return &bound{peers: counts.NodeLimit("audit peer", peerMost, window), all: counts.NodeLimit("audit", allMost, window)}
}

// admit reports whether a refusal of an address is written, and how many were not
// since the last one.
func (b *bound) admit(ctx context.Context, ip string) (suppressed int, ok bool) {
	// An address that has used up its own share costs the others nothing.
	wait, _ := b.peers.Take(ctx, limit.Peer(ip))
	if wait == 0 {
		wait, _ = b.all.Take(ctx, "")
	}
	if wait > 0 {
		b.suppressed.Add(1)
		return 0, false
	}
	return int(b.suppressed.Swap(0)), true
}
