package external

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/outbound"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// How long keys are used.
const (
	// maxFresh bounds what the headers of a set of keys say, so that a key which
	// the issuer takes away is refused soon.
	maxFresh = time.Hour

	// keepTime is how long keys are good while the issuer cannot be reached.
	keepTime = 24 * time.Hour

	// renewPause is the least time between two fetches for keys that are not
	// known. Requests wait for it, so it is short.
	renewPause = 3 * time.Second

	// maxWaiting bounds how many requests wait for keys.
	maxWaiting = 1024
)

// keys are the keys of one issuer. They are fetched when the first token comes,
// and outlive reloads of the configuration.
type keys struct {
	issuer  string
	jwksURI string // of the configuration; "" to look into the metadata
	fetcher *outbound.Fetcher
	log     *zap.Logger

	set     atomic.Pointer[keySet]
	found   atomic.Pointer[discovered]
	flight  singleflight.Group
	waiting chan struct{}
	behind  atomic.Int64 // when keys may be fetched in the background again, in Unix seconds
	failed  atomic.Pointer[failure]
}

// failure is a fetch that brought nothing. For a while there is no other one.
type failure struct {
	err  error
	over time.Time
}

func newKeys(issuer, jwksURI string, fetcher *outbound.Fetcher, log *zap.Logger) *keys {
	return &keys{issuer: issuer, jwksURI: jwksURI, fetcher: fetcher, log: log, waiting: make(chan struct{}, maxWaiting)}
}

// current returns the keys that count at a moment. What has become old is
// fetched anew behind the back of the request; it waits only when there is
// nothing that it could use.
func (k *keys) current(ctx context.Context, now time.Time) (*keySet, error) {
	set := k.set.Load()
	if set == nil || now.After(set.end) {
		return k.since(ctx, now, func(*keySet) bool { return false })
	}
	if now.After(set.stale) {
		k.refresh(now)
	}
	return set, nil
}

// generation tells which keys count, for tokens that were verified before. It is
// false when none do any more.
func (k *keys) generation(now time.Time) (uint64, bool) {
	set := k.set.Load()
	if set == nil || now.After(set.end) {
		return 0, false
	}
	if now.After(set.stale) {
		k.refresh(now)
	}
	return set.generation, true
}

// refresh fetches the keys in the background, unless it was tried a moment ago.
func (k *keys) refresh(now time.Time) {
	after := k.behind.Load()
	if now.Unix() < after || !k.behind.CompareAndSwap(after, now.Add(outbound.PauseTime).Unix()) {
		return
	}
	go func() { _ = k.fetch(context.Background()) }() // it logs its failures itself
}

// since returns keys that are enough, or else those that were asked for at the
// moment or later. A token whose key is not known may come with one that the
// issuer has just begun to use, so an answer that was on its way before says
// nothing about it.
func (k *keys) since(ctx context.Context, moment time.Time, enough func(*keySet) bool) (*keySet, error) {
	select {
	case k.waiting <- struct{}{}:
		defer func() { <-k.waiting }()
	default:
		return nil, unavailable(errors.New("too many requests wait for the keys of the issuer"))
	}
	for {
		set := k.set.Load()
		if set != nil && (!set.asked.Before(moment) || enough(set)) {
			return set, nil
		}
		if set != nil {
			if err := sleep(ctx, time.Until(set.asked.Add(renewPause))); err != nil {
				return nil, unavailable(err)
			}
			if k.set.Load() != set {
				continue
			}
		}
		if err := k.fetch(ctx); err != nil {
			return nil, unavailable(err)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// unavailable is the error for a token that nobody can tell the worth of.
func unavailable(err error) error { return fmt.Errorf("%w: %w", token.ErrUnavailable, err) }

// fetch fetches the keys once for all who want them. It goes on when the first
// who asked has left.
func (k *keys) fetch(ctx context.Context) error {
	flight := k.flight.DoChan("", func() (any, error) {
		if set := k.set.Load(); set != nil && time.Since(set.asked) < renewPause {
			return nil, nil // somebody was faster
		}
		if last := k.failed.Load(); last != nil && time.Now().Before(last.over) {
			return nil, last.err
		}
		set, err := k.fetchNow(context.WithoutCancel(ctx))
		if err != nil {
			k.failed.Store(&failure{err, time.Now().Add(outbound.PauseTime)})
			k.log.Warn("the keys of an authorization server cannot be fetched", zap.String("issuer", k.issuer), zap.Error(err))
			return nil, err
		}
		k.set.Store(set)
		return nil, nil
	})
	select {
	case <-ctx.Done():
		return ctx.Err()
	case got := <-flight:
		return got.Err
	}
}

func (k *keys) fetchNow(ctx context.Context) (*keySet, error) {
	address, err := k.address(ctx)
	if err != nil {
		return nil, err
	}
	asked := time.Now()
	doc, err := k.fetcher.Get(ctx, outbound.Anywhere, address, func(body []byte) (any, error) { return parseKeys(body) })
	if err != nil {
		k.found.Store(nil) // the keys may have moved
		return nil, fmt.Errorf("the keys at %s: %w", address, err)
	}
	set := &keySet{keys: doc.Value.([]publicKey), asked: asked}
	set.stale = asked.Add(min(doc.Fresh, maxFresh))
	set.end = set.stale.Add(keepTime)
	if last := k.set.Load(); last != nil {
		set.generation = last.generation
		if !set.hasAll(last) {
			set.generation++
		}
	}
	return set, nil
}
