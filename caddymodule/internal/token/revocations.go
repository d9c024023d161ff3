package token

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	gocache "github.com/patrickmn/go-cache"
	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/feed"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// Revocations is the set of grants, and of clients, whose access tokens are
// refused. An entry lives at least as long as the longest-lived token of the grant
// can.
type Revocations struct {
	store  store.Store
	prefix string
	log    *zap.Logger
	set    *gocache.Cache

	// floor is the moment, in Unix seconds, up to which all tokens are
	// refused; see makeRoom.
	floor atomic.Int64

	// removed counts the clients that came into the set; see verified.
	removed atomic.Uint64

	// revoked is called for grants that come into the set, and clientRevoked
	// for clients; see Notify.
	revoked       func(grantID string)
	clientRevoked func()
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
// or on another node, and clientRevoked after each client that is removed. It is
// called once, before the set is used.
func (r *Revocations) Notify(revoked func(grantID string), clientRevoked func()) {
	r.revoked, r.clientRevoked = revoked, clientRevoked
}

// maxRevoked bounds the set. An entry takes some 200 bytes.
const maxRevoked = 1 << 18

// mark puts a grant into the set.
func (r *Revocations) mark(grantID string, lifetime time.Duration) {
	r.makeRoom()
	r.set.Set(grantID, struct{}{}, lifetime)
	if r.revoked != nil {
		r.revoked(grantID)
	}
}

// makeRoom empties a set that is full. From then on every token that was issued
// before is refused, whoever it belongs to: clients get new ones with their
// refresh tokens, which a revoked grant does not give. So the bound on memory
// costs everyone a refresh and lets nobody in.
func (r *Revocations) makeRoom() {
	if r.set.ItemCount() < maxRevoked {
		return
	}
	if r.set.DeleteExpired(); r.set.ItemCount() < maxRevoked {
		return
	}
	r.log.Warn("too many revoked grants to remember; all access tokens of before have to be refreshed", zap.Int("grants", r.set.ItemCount()))
	r.floor.Store(time.Now().Unix())
	r.set.Flush()
}

// Refuses reports whether a token of a grant is refused that was issued at a
// moment in Unix seconds.
func (r *Revocations) Refuses(grantID string, issued int64) bool {
	return issued <= r.floor.Load() || r.Has(grantID)
}

// Has reports whether the grant has been revoked.
func (r *Revocations) Has(grantID string) bool {
	_, ok := r.set.Get(grantID)
	return ok
}

// Ask reports whether a token that is good here was revoked, with its grant or with
// its client, by the word of the store: for callers who cannot wait until this node
// has heard of what another one has revoked.
func (r *Revocations) Ask(ctx context.Context, c *Claims) (bool, error) {
	if r.Has(c.GrantID) {
		return true, nil
	}
	_, err := r.store.Get(ctx, r.prefix+c.GrantID)
	if !errors.Is(err, store.ErrNotFound) {
		return err == nil, err
	}
	removed, err := r.store.Get(ctx, r.prefix+removalName(c.ClientID))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil && c.IssuedAt <= refusedUntil(removed.Value), err
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
	feed.Feed{
		Store: r.store, Prefix: r.prefix, What: "revocations", Log: r.log,
		Load: r.load, Changed: r.loadKey,
	}.Follow(ctx)
}

func (r *Revocations) load(ctx context.Context) error {
	for e, err := range r.store.List(ctx, r.prefix) {
		if err != nil {
			return err
		}
		if !IsRemoval(strings.TrimPrefix(e.Key, r.prefix)) {
			r.note(e.Key, e.Expires, nil)
		} else if err := r.loadClient(ctx, e); err != nil {
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
	r.note(key, rec.Expires, rec.Value)
	return nil
}

// note puts what a record says into the set, unless the tokens of the grant are
// refused for their age already: a record lives at least minLifetime longer than
// the revocation is old. The value matters for clients only.
func (r *Revocations) note(key string, expires time.Time, value []byte) {
	if floor := r.floor.Load(); floor != 0 && !expires.IsZero() && expires.Add(-minLifetime-clockSkew).Unix() < floor {
		return
	}
	lifetime := gocache.NoExpiration
	if !expires.IsZero() {
		lifetime = max(time.Until(expires), time.Second)
	}
	if name := strings.TrimPrefix(key, r.prefix); IsRemoval(name) {
		r.markClient(name, refusedUntil(value), lifetime)
	} else {
		r.mark(name, lifetime)
	}
}

// Sweep forgets entries that have expired.
func (r *Revocations) Sweep() { r.set.DeleteExpired() }
