package jwks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"
)

// How long keys are used.
const (
	// maxFresh bounds what the headers of a set of keys say, so that a key which
	// the issuer takes away is refused soon.
	maxFresh = time.Hour

	// keepTime is how long keys are good while the issuer cannot be reached.
	keepTime = 24 * time.Hour

	// pauseTime is how long the issuer is left alone after a failure.
	pauseTime = 15 * time.Second

	// renewPause is the least time between two fetches for keys that are not
	// known. Requests wait for it, so it is short.
	renewPause = 3 * time.Second

	// maxWaiting bounds how many requests wait for keys.
	maxWaiting = 1024
)

// Errors of Verify. What else is the matter is in their text, for the log.
var (
	// ErrSignature says that no key of the issuer has made the signature.
	ErrSignature = errors.New("its signature is wrong")

	// ErrUnavailable says that nobody can tell at the moment.
	ErrUnavailable = errors.New("the keys of the issuer cannot be had")
)

// Fetch gets the keys that an issuer publishes, and says for how long they need
// not be fetched again.
type Fetch func(context.Context) (keys []Key, fresh time.Duration, err error)

// Cache keeps the keys of one issuer. They are fetched when the first signature
// comes. It is safe for concurrent use.
type Cache struct {
	issuer string // for the log
	get    Fetch
	log    *zap.Logger

	set     atomic.Pointer[keySet]
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

// NewCache returns a cache without keys.
func NewCache(issuer string, get Fetch, log *zap.Logger) *Cache {
	return &Cache{issuer: issuer, get: get, log: log, waiting: make(chan struct{}, maxWaiting)}
}

// Verify checks the signature of a token that came at a moment, and returns the
// generation of the keys that did. Where none fits, the issuer may have a new
// one, so it is asked once more.
func (c *Cache) Verify(ctx context.Context, signed *jose.JSONWebSignature, now time.Time) (uint64, error) {
	header := signed.Signatures[0].Protected
	set, err := c.current(ctx, now)
	if err != nil {
		return 0, err
	}
	fit := set.fit(header)
	if verifies(signed, fit) {
		return set.generation, nil
	}
	if len(fit) > 0 && header.KeyID != "" {
		return 0, ErrSignature
	}
	fits := func(set *keySet) bool { return verifies(signed, set.fit(header)) }
	if set, err = c.since(ctx, now, fits); err != nil {
		return 0, err
	}
	if !fits(set) {
		return 0, ErrSignature
	}
	return set.generation, nil
}

func verifies(signed *jose.JSONWebSignature, keys []Key) bool {
	return slices.ContainsFunc(keys, func(key Key) bool {
		_, err := signed.Verify(key.Key)
		return err == nil
	})
}

// current returns the keys that count at a moment. What has become old is
// fetched anew behind the back of the request; it waits only when there is
// nothing that it could use.
func (c *Cache) current(ctx context.Context, now time.Time) (*keySet, error) {
	set := c.set.Load()
	if set == nil || now.After(set.end) {
		return c.since(ctx, now, func(*keySet) bool { return false })
	}
	if now.After(set.stale) {
		c.refresh(now)
	}
	return set, nil
}

// Generation tells which keys count, for tokens that were verified before. It is
// false when none do any more.
func (c *Cache) Generation(now time.Time) (uint64, bool) {
	set := c.set.Load()
	if set == nil || now.After(set.end) {
		return 0, false
	}
	if now.After(set.stale) {
		c.refresh(now)
	}
	return set.generation, true
}

// refresh fetches the keys in the background, unless it was tried a moment ago.
func (c *Cache) refresh(now time.Time) {
	after := c.behind.Load()
	if now.Unix() < after || !c.behind.CompareAndSwap(after, now.Add(pauseTime).Unix()) {
		return
	}
	go func() { _ = c.fetch(context.Background()) }() // it logs its failures itself
}

// since returns keys that are enough, or else those that were asked for at the
// moment or later. A token whose key is not known may come with one that the
// issuer has just begun to use, so an answer that was on its way before says
// nothing about it.
func (c *Cache) since(ctx context.Context, moment time.Time, enough func(*keySet) bool) (*keySet, error) {
	select {
	case c.waiting <- struct{}{}:
		defer func() { <-c.waiting }()
	default:
		return nil, unavailable(errors.New("too many requests wait for the keys of the issuer"))
	}
	for {
		set := c.set.Load()
		if set != nil && (!set.asked.Before(moment) || enough(set)) {
			return set, nil
		}
		if set != nil {
			if err := sleep(ctx, time.Until(set.asked.Add(renewPause))); err != nil {
				return nil, unavailable(err)
			}
			if c.set.Load() != set {
				continue
			}
		}
		if err := c.fetch(ctx); err != nil {
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

func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }

// fetch fetches the keys once for all who want them. It goes on when the first
// who asked has left.
func (c *Cache) fetch(ctx context.Context) error {
	flight := c.flight.DoChan("", func() (any, error) {
		if set := c.set.Load(); set != nil && time.Since(set.asked) < renewPause {
			return nil, nil // somebody was faster
		}
		if last := c.failed.Load(); last != nil && time.Now().Before(last.over) {
			return nil, last.err
		}
		set, err := c.fetchNow(context.WithoutCancel(ctx))
		if err != nil {
			c.failed.Store(&failure{err, time.Now().Add(pauseTime)})
			c.log.Warn("the keys of an issuer cannot be fetched", zap.String("issuer", c.issuer), zap.Error(err))
			return nil, err
		}
		c.set.Store(set)
		return nil, nil
	})
	select {
	case <-ctx.Done():
		return ctx.Err()
	case got := <-flight:
		return got.Err
	}
}

func (c *Cache) fetchNow(ctx context.Context) (*keySet, error) {
	asked := time.Now()
	keys, fresh, err := c.get(ctx)
	if err != nil {
		return nil, err
	}
	set := &keySet{keys: keys, asked: asked}
	set.stale = asked.Add(min(fresh, maxFresh))
	set.end = set.stale.Add(keepTime)
	if last := c.set.Load(); last != nil {
		set.generation = last.generation
		if !set.hasAll(last) {
			set.generation++
		}
	}
	return set, nil
}
