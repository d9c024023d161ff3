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
// lives at least as long as the longest-lived token of the grant can.
type Revocations struct {
	store  store.Store
	prefix string
	log    *zap.Logger
	set    *gocache.Cache

	// revoked is called for grants that come into the set; see Notify.
	revoked func(grantID string)
}

// OpenRevocations reads the set that the store holds below prefix.
func OpenRevocations(ctx context.Context, s store.Store, prefix string, log *zap.Logger) (*Revocations, error) {
	r := &Revocations{store: s, prefix: prefix + "revoked/", log: log, set: gocache.New(gocache.NoExpiration, 0)}
	if err := r.load(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// Notify makes revoked be called for each grant that is revoked from now on, here
// or on another node. It is called once, before the set is used.
func (r *Revocations) Notify(revoked func(grantID string)) { r.revoked = revoked }

// mark puts a grant into the set.
func (r *Revocations) mark(grantID string, lifetime time.Duration) {
	r.set.Set(grantID, struct{}{}, lifetime)
	if r.revoked != nil {
		r.revoked(grantID)
	}
}

// Has reports whether the grant has been revoked.
func (r *Revocations) Has(grantID string) bool {
	_, ok := r.set.Get(grantID)
	return ok
}

// minLifetime is how long an entry lives at least. Without it, a revocation could
// end before the tokens that were issued when their lifetime was set higher.
const minLifetime = 24 * time.Hour

// Add revokes the access tokens of a grant for the lifetime that the youngest of
// them can have, or a day when that is longer. It is effective on this node even
// when the store fails; the error then says that other nodes do not know. A grant
// that is revoked already yields no more tokens, so its entry stays as it is.
func (r *Revocations) Add(ctx context.Context, grantID string, lifetime time.Duration) error {
	lifetime = max(lifetime, minLifetime) + clockSkew
	expires := time.Now().Add(lifetime)
	if !r.Has(grantID) {
		r.mark(grantID, lifetime)
	}
	err := r.store.Update(ctx, r.prefix+grantID, func(old store.Record) (store.Record, error) {
		if old.Exists() {
			return old, errKnown
		}
		return store.Record{Value: []byte{}, Expires: expires}, nil
	})
	if errors.Is(err, errKnown) {
		return nil
	}
	return err
}

var errKnown = errors.New("revocation is known")

// Follow keeps the set up to date with what other nodes revoke, until ctx is
// done. After a lost connection it reads the whole set again.
func (r *Revocations) Follow(ctx context.Context) {
	const retry = time.Second
	for ctx.Err() == nil {
		began := time.Now()
		err := r.followOnce(ctx)
		if ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
			return
		}
		if err != nil {
			r.log.Warn("lost sight of revocations; trying again", zap.Error(err))
		} else if time.Since(began) >= retry {
			continue // a watch that worked for a while has ended; start the next at once
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
	for e, err := range r.store.List(ctx, r.prefix) {
		if err != nil {
			return err
		}
		r.note(e.Key, e.Expires)
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
	r.note(key, rec.Expires)
	return nil
}

// note puts what a record says into the set.
func (r *Revocations) note(key string, expires time.Time) {
	lifetime := gocache.NoExpiration
	if !expires.IsZero() {
		lifetime = max(time.Until(expires), time.Second)
	}
	r.mark(strings.TrimPrefix(key, r.prefix), lifetime)
}

// Sweep forgets entries that have expired.
func (r *Revocations) Sweep() { r.set.DeleteExpired() }
