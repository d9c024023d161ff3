package delegation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

const (
	// leaseTime is how long a node keeps the others from renewing tokens. Of that,
	// the provider has all but saveTime, which is left for the store. waitTime is
	// how long the others, and all requests of the person, wait.
	leaseTime = 15 * time.Second
	saveTime  = 3 * time.Second
	waitTime  = 20 * time.Second
	pollTime  = 100 * time.Millisecond

	// longestLease is more than any lease of a node whose clock is ahead. What ends
	// later was made before the clock was set back.
	longestLease = time.Minute
)

// errLeased says that another node is renewing the tokens, and errChanged that
// they are others by now.
var (
	errLeased  = errors.New("another node renews the tokens")
	errChanged = errors.New("the tokens have changed")
)

// change lets fn change a record that is still the one that was read. A nil Value
// takes it away.
func (k *Keeper) change(ctx context.Context, key string, was *record, fn func(rec *record, r *store.Record) error) error {
	return k.store.Update(ctx, key, func(r store.Record) (store.Record, error) {
		if !r.Exists() {
			return r, ErrNone
		}
		rec, err := decode(r.Value)
		if err != nil {
			return r, err
		}
		if !bytes.Equal(rec.Tokens, was.Tokens) {
			return r, errChanged
		}
		if err := fn(rec, &r); err != nil || r.Value == nil {
			return r, err
		}
		r.Value, err = json.Marshal(rec)
		return r, err
	})
}

// lease keeps other nodes from renewing the tokens until a moment.
func (k *Keeper) lease(ctx context.Context, key string, was *record, until time.Time) error {
	return k.change(ctx, key, was, func(rec *record, _ *store.Record) error {
		if left := time.Until(rec.Lease); left > 0 && left <= longestLease {
			return errLeased
		}
		rec.Lease = until
		return nil
	})
}

// release gives a lease back, unless it is another node's by now.
func (k *Keeper) release(ctx context.Context, key string, was *record, until time.Time) error {
	return k.change(ctx, key, was, func(rec *record, _ *store.Record) error {
		if !rec.Lease.Equal(until) {
			return errLeased
		}
		rec.Lease = time.Time{}
		return nil
	})
}

// renew gets new tokens from the provider. The caller has the lease until a moment,
// counted from before the store was asked for it, which may have taken long.
func (k *Keeper) renew(ctx context.Context, key string, rec *record, t tokens, until time.Time, from Source) (tokens, error) {
	asking, cancel := context.WithDeadline(ctx, until.Add(-saveTime))
	defer cancel()
	renewed, err := from.Provider.Renew(asking, t.Subject, t.Refresh)
	switch {
	case errors.Is(err, login.ErrDenied):
		err := k.change(ctx, key, rec, func(_ *record, r *store.Record) error {
			r.Value = nil
			return nil
		})
		if err != nil && !errors.Is(err, ErrNone) {
			return t, err // errChanged: somebody has signed in meanwhile
		}
		return t, ErrNone
	case err != nil:
		// What the lease protects has not been used, as far as can be told.
		_ = k.release(ctx, key, rec, until)
		return t, err
	}
	if renewed.Refresh == "" {
		renewed.Refresh = t.Refresh // which goes on being good (RFC 6749 section 6)
	}
	t = t.replaced(renewed)
	return t, k.save(ctx, key, rec, t, from)
}

// save takes renewed tokens into the store. Those of before may be used up, so it
// goes on trying until the lease ends.
func (k *Keeper) save(ctx context.Context, key string, was *record, t tokens, from Source) error {
	value, err := k.encode(key, t)
	if err != nil {
		return err
	}
	renewed, err := decode(value)
	if err != nil {
		return err
	}
	for {
		err = k.change(ctx, key, was, func(rec *record, r *store.Record) error {
			*rec, r.Expires = *renewed, time.Now().Add(from.Lifetime)
			return nil
		})
		if err == nil || errors.Is(err, errChanged) || errors.Is(err, ErrNone) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pollTime):
		}
	}
}
