package redisstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// Store is a store.Store in Redis. Open makes one.
type Store struct {
	client  redis.UniversalClient
	single  *redis.Client        // client when that is one server, else nil
	cluster *redis.ClusterClient // client when that is a cluster, else nil

	prefix       string
	timeout      time.Duration // of one exchange
	waitReplicas int
	warnings     []string

	closing   chan struct{} // closed by Close
	closeOnce sync.Once
	closeErr  error
}

var (
	_ store.Store  = (*Store)(nil)
	_ store.Shared = (*Store)(nil)
)

// Shared implements store.Shared: any number of processes may use the server.
func (s *Store) Shared() bool { return true }

// Warnings returns what Open found in the settings of the server that can lose
// records, one sentence each, for the log. What the server does not tell is not
// among it.
func (s *Store) Warnings() []string { return slices.Clone(s.warnings) }

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Record, error) {
	if err := s.check(ctx, key); err != nil {
		return store.Record{}, err
	}
	r, _, err := s.read(ctx, s.place(key))
	if err != nil {
		return store.Record{}, err
	}
	if !r.Exists() {
		return store.Record{}, store.ErrNotFound
	}
	return r, nil
}

// read returns the record, which is the zero Record when it is absent or has
// expired by the clock of this node, and the version of what is stored, which is
// empty only when nothing is: the clock of the server may be behind.
func (s *Store) read(ctx context.Context, at place) (store.Record, string, error) {
	opCtx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	b, err := s.client.Get(opCtx, at.record).Bytes()
	if errors.Is(err, redis.Nil) {
		return store.Record{}, "", nil
	}
	if err != nil {
		return store.Record{}, "", s.failure(ctx, err)
	}
	r, version, err := decode(b)
	if err != nil {
		return store.Record{}, "", err
	}
	if r.ExpiredAt(time.Now()) {
		r = store.Record{}
	}
	return r, version, nil
}

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, key string, r store.Record) error {
	if err := s.check(ctx, key); err != nil {
		return err
	}
	if err := store.CheckRecord(r, time.Now()); err != nil {
		return err
	}
	_, err := s.apply(ctx, newChange(s.place(key), anyVersion, r))
	return err
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := s.check(ctx, key); err != nil {
		return err
	}
	_, err := s.apply(ctx, newChange(s.place(key), anyVersion, store.Record{}))
	return err
}

// contention bounds how long an Update goes on against others that change the
// same record. A hundred of them at once take a fraction of it.
const contention = 5 * time.Second

// Update implements store.Store. fn runs on the caller's goroutine, and again
// each time that another caller was faster.
func (s *Store) Update(ctx context.Context, key string, fn func(store.Record) (store.Record, error)) error {
	if err := s.check(ctx, key); err != nil {
		return err
	}
	at := s.place(key)
	deadline := time.Now().Add(contention)
	for try := 1; ; try++ {
		done, err := s.update(ctx, at, fn)
		if done || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("redis: others have changed the record each of %d times in %v", try, contention)
		}
		if err := s.pause(ctx, try); err != nil {
			return err
		}
	}
}

// update is one try of an Update. It reports whether it has come to an end.
func (s *Store) update(ctx context.Context, at place, fn func(store.Record) (store.Record, error)) (bool, error) {
	old, version, err := s.read(ctx, at)
	if err != nil {
		return false, err
	}
	existed := old.Exists() // fn may do to the record what it likes
	r, err := fn(old)
	switch {
	case err != nil:
		return false, err
	case !r.Exists() && !existed:
		return true, nil
	case r.Exists():
		if err := store.CheckRecord(r, time.Now()); err != nil {
			return false, err
		}
	}
	return s.apply(ctx, newChange(at, version, r))
}

// pause waits for a random time before the next try, so that those who have
// collided do not do so again. The more tries, the longer it may be.
func (s *Store) pause(ctx context.Context, try int) error {
	longest := time.Millisecond << min(try, 5)
	timer := time.NewTimer(rand.N(longest)) //nolint:gosec // nothing depends on its being hard to guess
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closing:
		return store.ErrClosed
	}
}

// Close implements store.Store. Calls under way that have not been answered yet
// return ErrClosed; what they write may be there.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		close(s.closing)
		s.closeErr = s.client.Close()
	})
	return s.closeErr
}

func (s *Store) closed() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

func (s *Store) check(ctx context.Context, key string) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	return store.CheckKey(key)
}

func (s *Store) usable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.closed() {
		return store.ErrClosed
	}
	return nil
}

// failure makes the error of the client one of the contract. ctx is the caller's
// own: that an exchange took too long is not the end of it.
func (s *Store) failure(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if s.closed() {
		return store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.cluster != nil {
		// The node may be gone and another one have its slots. This returns at
		// once, and reads the map of the cluster at most five times a second.
		s.cluster.ReloadState(ctx)
	}
	if isTimeout(err) {
		if end, ok := ctx.Deadline(); ok && !time.Now().Before(end) {
			return context.DeadlineExceeded // ctx is about to find that out, too
		}
		return fmt.Errorf("redis: no answer within %v", s.timeout)
	}
	if err = oneLine(err); strings.HasPrefix(err.Error(), "redis: ") {
		return err
	}
	return fmt.Errorf("redis: %w", err)
}

// flat is an error in one line, however many errors are joined in it, such as
// one for each sentinel.
type flat struct{ error }

func (e flat) Error() string { return strings.ReplaceAll(e.error.Error(), "\n", ", ") }
func (e flat) Unwrap() error { return e.error }

func oneLine(err error) error {
	if err == nil || !strings.Contains(err.Error(), "\n") {
		return err
	}
	return flat{err}
}

func isTimeout(err error) bool {
	netErr, ok := errors.AsType[net.Error](err)
	return ok && netErr.Timeout() || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, context.Canceled) || errors.Is(err, redis.ErrPoolTimeout)
}
