package grant

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// All yields every active grant, in no particular order. It reads all records, so
// it is for operators; what cannot be read is left out, since the check of a store
// tells of that. The loop may call the service. An error ends the sequence.
func (s *Service) All(ctx context.Context) iter.Seq2[*Grant, error] {
	return func(yield func(*Grant, error) bool) {
		for r, err := range s.records(ctx) {
			if err != nil {
				yield(nil, err)
				return
			}
			if g, err := decode(r.Value); err == nil && g.Active(time.Now()) && !yield(g, nil) {
				return
			}
		}
	}
}

// records yields the records of all grants, in no particular order. An error ends
// the sequence.
func (s *Service) records(ctx context.Context) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		for key, err := range store.UniqueKeys(s.store.Keys(ctx, s.prefix)) {
			var r store.Record
			if err == nil {
				r, err = s.store.Get(ctx, key)
			}
			if errors.Is(err, store.ErrNotFound) {
				continue // it has ended meanwhile
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// Get returns a grant by its id, whether it still counts or not, or
// store.ErrNotFound.
func (s *Service) Get(ctx context.Context, id string) (*Grant, error) {
	key, ok := s.keyOf(id)
	if !ok {
		return nil, store.ErrNotFound
	}
	return s.get(ctx, key)
}

// Find returns an active grant by its id, or store.ErrNotFound.
func (s *Service) Find(ctx context.Context, id string) (*Grant, error) {
	g, err := s.Get(ctx, id)
	if err == nil && !g.Active(time.Now()) {
		return nil, store.ErrNotFound
	}
	return g, err
}

// RevokeClient ends all grants of a client, and codes that nobody has redeemed, and
// returns how many of them were active. It reads all records, so it is for
// operators. A record that cannot be read is an error, as it may be one of them, but
// keeps no other from being ended.
func (s *Service) RevokeClient(ctx context.Context, clientID string) (int, error) {
	n := 0
	var unreadable error
	for r, err := range s.records(ctx) {
		if err != nil {
			return n, err
		}
		g, err := decode(r.Value)
		if err != nil {
			unreadable = err
			continue
		}
		if g.ClientID != clientID || g.Denied || !g.Revoked.IsZero() {
			continue
		}
		if err := s.Revoke(ctx, g.ID); err != nil {
			return n, err
		}
		if g.Active(time.Now()) {
			n++
		}
	}
	return n, unreadable
}
