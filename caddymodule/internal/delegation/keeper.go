package delegation

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/bounded"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/seal"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

var (
	// ErrNone says that there is no token for the person, or none that the
	// provider still accepts. Only another sign-in there gets one.
	ErrNone = errors.New("the provider has to be asked again, with the person at the browser")

	// ErrUnavailable says that there may be a token, but that the store or the
	// provider cannot be asked at the moment.
	ErrUnavailable = errors.New("the tokens of the provider cannot be had at the moment")
)

const (
	// margin is how long before its end a token is renewed, as it has to be good
	// until the upstream has looked at it.
	margin = 30 * time.Second

	// memory is how long a node uses a token without a look at the store, where
	// another node may have forgotten it.
	memory = time.Minute

	// memoryEntries is how many people's tokens a node remembers.
	memoryEntries = 4096

	// doubtPause is how often a token is renewed at most because an upstream has
	// refused it.
	doubtPause = time.Minute

	// faultPause is how long a provider is left alone after a failure.
	faultPause = 2 * time.Second
)

// Source is where tokens come from.
type Source struct {
	Provider login.Delegate

	// Lifetime is how long tokens are kept after their last use.
	Lifetime time.Duration
}

// Keeper keeps the tokens of the users of an issuer. Users go by the text that
// stands for them in ids of grants. It belongs to the state that outlives
// configurations and is safe for concurrent use.
type Keeper struct {
	store  store.Store
	prefix string
	box    *seal.Box
	known  *bounded.Cache // tokens by user
	faults *bounded.Cache // errors by user
	doubts *bounded.Cache // tokens that an upstream has refused, by user
	flight singleflight.Group
}

// NewKeeper keeps tokens in s below prefix, sealed with a key that derive makes.
func NewKeeper(s store.Store, prefix string, derive func(label string) []byte) (*Keeper, error) {
	box, err := seal.New(hex.EncodeToString(derive("delegated tokens")))
	if err != nil {
		return nil, err
	}
	return &Keeper{
		store: s, prefix: prefix + "delegation/", box: box, known: bounded.NewCache(memoryEntries),
		faults: bounded.NewCache(memoryEntries), doubts: bounded.NewCache(memoryEntries),
	}, nil
}

// Keep takes the tokens of somebody who has just signed in, in place of those of
// before. They are kept for a lifetime if they are not used.
func (k *Keeper) Keep(ctx context.Context, user string, id login.Identity, lifetime time.Duration) error {
	key := k.prefix + user
	value, err := k.encode(key, tokensOf(id))
	if err != nil {
		return err
	}
	if err := k.store.Put(ctx, key, store.Record{Value: value, Expires: time.Now().Add(lifetime)}); err != nil {
		return err
	}
	k.drop(user)
	return nil
}

// Forget drops the tokens of a user.
func (k *Keeper) Forget(ctx context.Context, user string) error {
	err := k.store.Delete(ctx, k.prefix+user)
	k.drop(user)
	return err
}

// Shorten keeps the tokens of a user for no longer than a lifetime from now on.
func (k *Keeper) Shorten(ctx context.Context, user string, lifetime time.Duration) error {
	end := time.Now().Add(lifetime)
	err := k.store.Update(ctx, k.prefix+user, func(r store.Record) (store.Record, error) {
		if !r.Exists() || r.Expires.Before(end) {
			return r, errShort
		}
		r.Expires = end
		return r, nil
	})
	if errors.Is(err, errShort) {
		return nil
	}
	return err
}

var errShort = errors.New("the tokens end soon enough")

func (k *Keeper) drop(user string) {
	for _, c := range []*bounded.Cache{k.known, k.faults} {
		c.Set(user, nil, 0)
	}
}

// Doubt notes that an upstream has refused a token, which the provider may have
// ended before its time.
func (k *Keeper) Doubt(user, access string) {
	if _, ok := k.doubts.Get(user); ok {
		return
	}
	k.doubts.Set(user, access, doubtPause)
	k.known.Set(user, nil, 0)
}

// usable reports whether a token may be used as it is. One that an upstream has
// refused may if it ends by itself and cannot be renewed: it is all there is. One
// that has no end would stay refused for ever.
func (k *Keeper) usable(user string, t tokens) bool {
	refused, ok := k.doubts.Get(user)
	doubted := ok && refused == t.Access
	return fresh(t) && (!doubted || t.Refresh == "" && !t.Expires.IsZero())
}

// Token returns an access token for a user that is good now. It is ErrNone or
// ErrUnavailable when there is none.
func (k *Keeper) Token(ctx context.Context, user string, from Source) (string, error) {
	if found, ok := k.known.Get(user); ok {
		if t := found.(tokens); t.from(from.Provider) {
			return t.Access, nil
		}
	}
	if fault, ok := k.faults.Get(user); ok {
		return "", fault.(error)
	}
	// Whoever hangs up must not end the renewal, which uses up a refresh token.
	shared := k.flight.DoChan(user, func() (any, error) {
		lasting, cancel := context.WithTimeout(context.WithoutCancel(ctx), waitTime)
		defer cancel()
		return k.find(lasting, user, from)
	})
	waiting, cancel := context.WithTimeout(ctx, waitTime)
	defer cancel()
	select {
	case <-waiting.Done():
		return "", fmt.Errorf("%w: %w", ErrUnavailable, waiting.Err())
	case got := <-shared:
		if got.Err != nil {
			return "", got.Err
		}
		return got.Val.(string), nil
	}
}

// find returns a good token out of the store, and renews it before if it has to.
func (k *Keeper) find(ctx context.Context, user string, from Source) (string, error) {
	for {
		t, err := k.try(ctx, user, from)
		switch {
		case err == nil:
			k.remember(user, t)
			return t.Access, nil
		case errors.Is(err, ErrNone), errors.Is(err, errDamaged):
			return "", ErrNone
		case errors.Is(err, errChanged):
			continue
		case !errors.Is(err, errLeased):
			err = fmt.Errorf("%w: %w", ErrUnavailable, err)
			k.faults.Set(user, err, faultPause)
			return "", err
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
		case <-time.After(pollTime):
		}
	}
}

// remember keeps a token until it has to be renewed, or is to be looked at in the
// store again.
func (k *Keeper) remember(user string, t tokens) {
	until := memory
	if !t.Expires.IsZero() {
		until = min(until, time.Until(t.Expires)-margin)
	}
	t.Refresh = "" // is of use together with the store only
	if until > 0 {
		k.known.Set(user, t, until)
	}
}

// try is one look at the store, and one renewal if it is needed.
func (k *Keeper) try(ctx context.Context, user string, from Source) (tokens, error) {
	key := k.prefix + user
	stored, err := k.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return tokens{}, ErrNone
	}
	if err != nil {
		return tokens{}, err
	}
	rec, err := decode(stored.Value)
	if err != nil {
		return tokens{}, err
	}
	t, err := k.open(key, rec)
	if err != nil {
		return t, err
	}
	if !t.from(from.Provider) {
		return t, ErrNone
	}
	if k.usable(user, t) {
		k.prolong(ctx, key, stored, from)
		return t, nil
	}
	if t.Refresh == "" {
		return t, ErrNone
	}
	until := time.Now().Add(leaseTime)
	if err := k.lease(ctx, key, rec, until); err != nil {
		return t, err
	}
	// It goes on when nobody waits any more, as long as the lease does: the provider
	// may have used the refresh token up, and what came for it has to be saved.
	leased, cancel := context.WithDeadline(context.WithoutCancel(ctx), until)
	defer cancel()
	return k.renew(leased, key, rec, t, until, from)
}

// fresh reports whether a token will still be good when it arrives.
func fresh(t tokens) bool {
	return t.Expires.IsZero() || time.Until(t.Expires) > margin
}

// prolong keeps what is in use. At the first use it stretches the time of unused
// tokens, and later it writes once in half of the lifetime. What fails is done by
// the next use.
func (k *Keeper) prolong(ctx context.Context, key string, stored store.Record, from Source) {
	if time.Until(stored.Expires) > from.Lifetime/2 {
		return
	}
	_ = k.store.Update(ctx, key, func(r store.Record) (store.Record, error) {
		if r.Exists() {
			r.Expires = time.Now().Add(from.Lifetime)
		}
		return r, nil
	})
}
