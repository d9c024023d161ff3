package apitoken_test

import (
	"context"
	"sync"
	"testing"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/apitoken"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
)

const prefix = "test/"

// node is what one process has of the tokens of an issuer.
type node struct {
	*apitoken.Tokens
	t    testing.TB
	view *apitoken.View

	mu    sync.Mutex
	ended []string
}

func newNode(t testing.TB, s store.Store) *node {
	t.Helper()
	tokens, err := apitoken.Open(t.Context(), s, prefix, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Tokens: tokens, t: t, view: tokens.View(oauth.Scopes{"read", "write"}, nil)}
	tokens.Notify(func(id string) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.ended = append(n.ended, id)
	})
	return n
}

func newStore(t testing.TB) store.Store {
	s := memstore.New(0)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (n *node) make(spec apitoken.Spec) string {
	n.t.Helper()
	secret, _, err := n.Create(n.t.Context(), spec)
	if err != nil {
		n.t.Fatal(err)
	}
	return secret
}

func (n *node) revoke(name string) {
	n.t.Helper()
	if err := n.Revoke(n.t.Context(), name); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) finds(secret string) bool {
	_, ok := n.view.Find(secret)
	return ok
}

// hasEnded reports whether the node was told that a token is no more.
func (n *node) hasEnded(id string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.ended) == 1 && n.ended[0] == id && n.view.Revoked(id)
}

// follow lets the node follow the others until the returned function is called.
func (n *node) follow() (stop func()) {
	ctx, cancel := context.WithCancel(n.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Follow(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}
