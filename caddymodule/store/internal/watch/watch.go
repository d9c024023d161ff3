// Package watch tells the watchers inside one process which keys have changed.
// The stores build their Watch method on it.
package watch

import (
	"context"
	"strings"
	"sync"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// buffer is how many keys a watcher may lag behind before it is cut off. It
// covers a burst of writes and keeps an idle watcher at a few kilobytes.
const buffer = 256

// Hub passes changed keys on to watchers. The zero value is ready to use.
type Hub struct {
	mu       sync.Mutex
	watchers map[*watcher]struct{}
	closed   bool
}

type watcher struct {
	prefix string
	keys   chan string
	stop   func() bool // takes the watcher off its context
}

// Watch implements store.Store's method of this name.
func (h *Hub) Watch(ctx context.Context, prefix string) (<-chan string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, store.ErrClosed
	}
	w := &watcher{prefix: prefix, keys: make(chan string, buffer)}
	w.stop = context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.drop(w)
	})
	if h.watchers == nil {
		h.watchers = make(map[*watcher]struct{})
	}
	h.watchers[w] = struct{}{}
	return w.keys, nil
}

// Publish reports a changed key. It never waits for a watcher: one whose buffer
// is full is cut off, which its reader notices as a closed channel.
func (h *Hub) Publish(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		if !strings.HasPrefix(key, w.prefix) {
			continue
		}
		select {
		case w.keys <- key:
		default:
			h.drop(w)
		}
	}
}

// Reset cuts off all watchers, as a store does that may itself have missed
// changes. New watchers are welcome afterwards.
func (h *Hub) Reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		h.drop(w)
	}
}

// Close cuts off all watchers and refuses new ones.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for w := range h.watchers {
		h.drop(w)
	}
}

// drop closes the channel of w, once. The caller holds the lock, which is also
// what keeps Publish from sending on a closed channel.
func (h *Hub) drop(w *watcher) {
	if _, ok := h.watchers[w]; !ok {
		return
	}
	delete(h.watchers, w)
	w.stop()
	close(w.keys)
}
