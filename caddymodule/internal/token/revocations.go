package token

import (
	"context"
	"errors"
	"strings"
	"time"

	gocache "github.com/patrickmn/go-cache"
	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// Revocations is the set of grants whose access tokens are refused. An entry
// lives as long as the longest-lived token of the grant can.
type Revocations struct {
	store  store.Store
	prefix string
	log    *zap.Logger
	set    *gocache.Cache
}

// OpenRevocations reads the set that the store holds below prefix.
func OpenRevocations(ctx context.Context, s store.Store, prefix string, log *zap.Logger) (*Revocations, error) {
	r := &Revocations{store: s, prefix: prefix + "revoked/", log: log, set: gocache.New(gocache.NoExpiration, 0)}
	if err := r.load(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// Has reports whether the grant has been revoked.
func (r *Revocations) Has(grantID string) bool {
	_, ok := r.set.Get(grantID)
	return ok
}

// Add revokes the access tokens of a grant for the lifetime that the youngest of
// them can have. It is effective on this node even when the store fails; the
// error then says that other nodes do not know.
func (r *Revocations) Add(ctx context.Context, grantID string, lifetime time.Duration) error {
	lifetime += clockSkew
	r.set.Set(grantID, struct{}{}, lifetime)
	return r.store.Put(ctx, r.prefix+grantID, store.Record{Value: []byte{}, Expires: time.Now().Add(lifetime)})
}

// Follow keeps the set up to date with what other nodes revoke, until ctx is
// done. After a lost connection it reads the whole set again.
func (r *Revocations) Follow(ctx context.Context) {
	const retry = time.Second
	for ctx.Err() == nil {
		err := r.followOnce(ctx)
		if ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
			return
		}
		if err != nil {
			r.log.Warn("lost sight of revocations; trying again", zap.Error(err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

func (r *Revocations) followOnce(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The watch comes first, so that nothing falls between it and the reading.
	keys, err := r.store.Watch(ctx, r.prefix)
	if err != nil {
		return err
	}
	if err := r.load(ctx); err != nil {
		return err
	}
	for key := range keys {
		if err := r.loadKey(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

func (r *Revocations) load(ctx context.Context) error {
	for key, err := range r.store.Keys(ctx, r.prefix) {
		if err != nil {
			return err
		}
		if err := r.loadKey(ctx, key); err != nil {
			return err
		}
	}
	r.set.DeleteExpired()
	return nil
}

func (r *Revocations) loadKey(ctx context.Context, key string) error {
	rec, err := r.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	lifetime := time.Duration(gocache.NoExpiration)
	if !rec.Expires.IsZero() {
		lifetime = max(time.Until(rec.Expires), time.Second)
	}
	r.set.Set(strings.TrimPrefix(key, r.prefix), struct{}{}, lifetime)
	return nil
}

// Sweep forgets entries that have expired.
func (r *Revocations) Sweep() { r.set.DeleteExpired() }
