package storetest

import (
	"context"
	"sync"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// Late is a store that holds the answer to one Get back, so that it is out of date
// when it arrives.
type Late struct {
	store.Store

	// Answered is closed when the answer is there, and Release lets it go.
	Answered chan struct{}
	Release  chan struct{}

	hold  sync.Once
	armed bool
}

// NewLate wraps a store, which answers at once until Arm is called.
func NewLate(inner store.Store) *Late {
	return &Late{Store: inner, Answered: make(chan struct{}), Release: make(chan struct{})}
}

// Arm makes the next Get the one whose answer is late. Nothing else may use the
// store meanwhile.
func (s *Late) Arm() { s.armed = true }

// Get implements store.Store.
func (s *Late) Get(ctx context.Context, key string) (store.Record, error) {
	r, err := s.Store.Get(ctx, key)
	if s.armed {
		s.hold.Do(func() {
			close(s.Answered)
			<-s.Release
		})
	}
	return r, err
}
