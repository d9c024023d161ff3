// Package memstore keeps the state in memory, for tests and throw-away use:
// when the process ends, everything is gone.
package memstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/patrickmn/go-cache"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/internal/watch"
)

// DefaultMaxRecords bounds a store for which no other bound was asked. At a
// typical record of one kilobyte that is some 120 MB.
const DefaultMaxRecords = 100_000

// ErrFull is returned by a write that would create one record too many. Writes
// to records that exist, and deletions, work on.
var ErrFull = errors.New("memory store is full")

// Store is a store.Store and a store.Sweeper in memory. New makes one.
type Store struct {
	max   int
	cache *cache.Cache // values are store.Record, never changed once stored
	hub   watch.Hub

	mu     sync.RWMutex // held for writing by every change, so that Update is atomic
	closed bool

	// folders has the keys of the cache by their folder, for List.
	folders map[string]map[string]struct{}

	// soonest is a lower bound of the moments at which records expire, or the
	// zero time when none does. Before it, a full store need not look for
	// expired records, which keeps refusals cheap.
	soonest time.Time
}

var (
	_ store.Store   = (*Store)(nil)
	_ store.Sweeper = (*Store)(nil)
)

// New returns an empty store for at most maxRecords records, or for
// DefaultMaxRecords when that is zero or less. Somebody must call Sweep now and
// then: the cache's own janitor is not used, as only the garbage collector
// would end it.
func New(maxRecords int) *Store {
	if maxRecords <= 0 {
		maxRecords = DefaultMaxRecords
	}
	return &Store{
		max: maxRecords, cache: cache.New(cache.NoExpiration, 0), folders: make(map[string]map[string]struct{}),
	}
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Record, error) {
	if err := check(ctx, key); err != nil {
		return store.Record{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return store.Record{}, store.ErrClosed
	}
	r := s.load(key, time.Now())
	if !r.Exists() {
		return store.Record{}, store.ErrNotFound
	}
	return r, nil
}

// Put implements store.Store. It returns an ErrFull for a new record when there
// is no room.
func (s *Store) Put(ctx context.Context, key string, r store.Record) error {
	return s.Update(ctx, key, func(store.Record) (store.Record, error) {
		return r, store.CheckRecord(r, time.Now())
	})
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	return s.Update(ctx, key, func(store.Record) (store.Record, error) {
		return store.Record{}, nil
	})
}

// Update implements store.Store. It returns an ErrFull for a new record when
// there is no room.
func (s *Store) Update(ctx context.Context, key string, fn func(store.Record) (store.Record, error)) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	now := time.Now()
	old := s.load(key, now)
	r, err := fn(old)
	if err != nil {
		return err
	}
	if !r.Exists() {
		s.drop(key)
		if old.Exists() {
			s.hub.Publish(key)
		}
		return nil
	}
	if err := store.CheckRecord(r, now); err != nil {
		return err
	}
	if err := s.makeRoom(key, now); err != nil {
		return err
	}
	s.save(key, r)
	s.hub.Publish(key)
	return nil
}

// load returns a copy of the record at key, or the zero Record. The cache alone
// would still hand out a record in the very moment of its expiry.
func (s *Store) load(key string, now time.Time) store.Record {
	v, ok := s.cache.Get(key)
	if !ok {
		return store.Record{}
	}
	r := v.(store.Record)
	if r.ExpiredAt(now) {
		return store.Record{}
	}
	r.Value = copied(r.Value)
	return r
}

// save keeps a copy of r, with the expiry cut to milliseconds as the durable
// stores have it, so that nothing comes to depend on more.
func (s *Store) save(key string, r store.Record) {
	kept := store.Record{Value: copied(r.Value)}
	life := cache.NoExpiration
	if !r.Expires.IsZero() {
		kept.Expires = time.UnixMilli(r.Expires.UnixMilli())
		// Zero and below have other meanings to the cache; a record whose last
		// millisecond has begun is kept for a moment, and load knows better.
		life = max(time.Until(kept.Expires), 1)
		if s.soonest.IsZero() || kept.Expires.Before(s.soonest) {
			s.soonest = kept.Expires
		}
	}
	s.cache.Set(key, kept, life)
	folder := store.Folder(key)
	if s.folders[folder] == nil {
		s.folders[folder] = make(map[string]struct{})
	}
	s.folders[folder][key] = struct{}{}
}

// drop removes what there is at key.
func (s *Store) drop(key string) {
	s.cache.Delete(key)
	folder := store.Folder(key)
	delete(s.folders[folder], key)
	if len(s.folders[folder]) == 0 {
		delete(s.folders, folder)
	}
}

// makeRoom returns an ErrFull when a record at key would be one too many, even
// without the expired ones.
func (s *Store) makeRoom(key string, now time.Time) error {
	if s.cache.ItemCount() < s.max {
		return nil
	}
	if _, ok := s.cache.Get(key); ok {
		return nil
	}
	if !s.soonest.IsZero() && !now.Before(s.soonest) && s.sweep(now) > 0 {
		return nil
	}
	return fmt.Errorf("%w: it holds %d records, and none has expired", ErrFull, s.max)
}

// Sweep implements store.Sweeper.
func (s *Store) Sweep(ctx context.Context, now time.Time) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, store.ErrClosed
	}
	return s.sweep(now), nil
}

// sweep removes the expired records and finds out when the next one expires.
func (s *Store) sweep(now time.Time) int {
	removed := 0
	s.soonest = time.Time{}
	for folder, keys := range s.folders {
		for key := range keys {
			v, ok := s.cache.Get(key)
			if !ok || v.(store.Record).ExpiredAt(now) {
				s.cache.Delete(key)
				delete(keys, key)
				removed++
				continue
			}
			if r := v.(store.Record); !r.Expires.IsZero() && (s.soonest.IsZero() || r.Expires.Before(s.soonest)) {
				s.soonest = r.Expires
			}
		}
		if len(keys) == 0 {
			delete(s.folders, folder)
		}
	}
	return removed
}

// Keys implements store.Store. It takes one snapshot when the loop begins.
func (s *Store) Keys(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return store.KeysOf(s.entries(ctx, func() []store.Entry { return s.withPrefix(prefix) }))
}

// List implements store.Store. It takes one snapshot when the loop begins.
func (s *Store) List(ctx context.Context, folder string) iter.Seq2[store.Entry, error] {
	return store.InFolder(folder, s.entries(ctx, func() []store.Entry { return s.appendFolder(nil, folder) }))
}

// entries yields a snapshot.
func (s *Store) entries(ctx context.Context, take func() []store.Entry) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		entries, err := s.snapshot(ctx, take)
		if err != nil {
			yield(store.Entry{}, err)
			return
		}
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				yield(store.Entry{}, err)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (s *Store) snapshot(ctx context.Context, take func() []store.Entry) ([]store.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, store.ErrClosed
	}
	return take(), nil
}

// withPrefix returns the records whose keys start with prefix.
func (s *Store) withPrefix(prefix string) []store.Entry {
	var out []store.Entry
	for folder := range s.folders {
		if strings.HasPrefix(folder, prefix) {
			out = s.appendFolder(out, folder)
		}
	}
	// What is left has the rest of the prefix in its name.
	for _, e := range s.appendFolder(nil, store.Folder(prefix)) {
		if strings.HasPrefix(e.Key, prefix) && store.Folder(prefix) != prefix {
			out = append(out, e)
		}
	}
	return out
}

// appendFolder appends the records of one folder.
func (s *Store) appendFolder(out []store.Entry, folder string) []store.Entry {
	now := time.Now()
	for key := range s.folders[folder] {
		v, ok := s.cache.Get(key)
		if !ok {
			continue
		}
		if r := v.(store.Record); !r.ExpiredAt(now) {
			out = append(out, store.Entry{Key: key, Expires: r.Expires})
		}
	}
	return out
}

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, prefix string) (<-chan string, error) {
	return s.hub.Watch(ctx, prefix)
}

// Close implements store.Store. The records are gone with it.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.cache.Flush()
	clear(s.folders)
	s.hub.Close()
	return nil
}

func check(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return store.CheckKey(key)
}

// copied returns a copy that is never nil, as a stored value is not.
func copied(v []byte) []byte {
	if len(v) == 0 {
		return []byte{}
	}
	return bytes.Clone(v)
}
