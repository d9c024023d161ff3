package filestore

import (
	"context"
	"iter"
	"os"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/internal/watch"
)

// Store is a store.Store and a store.Sweeper in a file. Open makes one.
type Store struct {
	db   *bbolt.DB
	file *os.File // the file under db, to let go of its lock when db cannot
	hub  watch.Hub

	changes chan *change  // to the writer; unbuffered, so nothing is left in it at the end
	closing chan struct{} // closed by Close
	stopped chan struct{} // closed by the writer when it has ended

	// spoilt is set by the writer, and only used by it until it has stopped:
	// after a panic within a transaction nothing more is written, as that
	// could spread the damage.
	spoilt error

	abandonOnce sync.Once
	abandoned   chan struct{} // see abandon
	closeOnce   sync.Once
}

var (
	_ store.Store   = (*Store)(nil)
	_ store.Sweeper = (*Store)(nil)
)

func newStore(db *bbolt.DB, file *os.File) *Store {
	s := &Store{
		db:        db,
		file:      file,
		changes:   make(chan *change),
		closing:   make(chan struct{}),
		stopped:   make(chan struct{}),
		abandoned: make(chan struct{}),
	}
	go s.write()
	return s
}

// Get implements store.Store. It sees the last committed state and does not
// wait for writes.
func (s *Store) Get(ctx context.Context, key string) (store.Record, error) {
	if err := check(ctx, key); err != nil {
		return store.Record{}, err
	}
	var r store.Record
	err := s.view(func(tx *bbolt.Tx) (err error) {
		r, err = get(tx, key, time.Now())
		return err
	})
	if err != nil {
		return store.Record{}, err
	}
	if !r.Exists() {
		return store.Record{}, store.ErrNotFound
	}
	return r, nil
}

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, key string, r store.Record) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	if err := store.CheckRecord(r, time.Now()); err != nil {
		return err
	}
	encoded := encode(r) // now, as r is the caller's again once Put has returned
	return s.submit(ctx, func(t *tables, _ time.Time) (outcome, error) {
		t.put([]byte(key), encoded)
		return outcome{changed: true, key: key}, nil
	})
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	return s.submit(ctx, func(t *tables, now time.Time) (outcome, error) {
		return removed(t, key, now), nil
	})
}

// Update implements store.Store. fn runs once at most, on the goroutine of the
// writer, so a slow one holds up every other change.
func (s *Store) Update(ctx context.Context, key string, fn func(store.Record) (store.Record, error)) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	var fnCall call
	defer fnCall.finish()
	return s.submit(ctx, func(t *tables, now time.Time) (outcome, error) {
		old, err := get(t.records.Tx(), key, now)
		if err != nil {
			return outcome{}, err
		}
		r, err := fnCall.run(fn, old)
		if err != nil {
			return outcome{}, err
		}
		if !r.Exists() {
			return removed(t, key, now), nil
		}
		if err := store.CheckRecord(r, now); err != nil {
			return outcome{}, err
		}
		t.put([]byte(key), encode(r))
		return outcome{changed: true, key: key}, nil
	})
}

// removed deletes the record at key. One that had expired is cleared away
// silently, since it counted as absent before.
func removed(t *tables, key string, now time.Time) outcome {
	lived, changed := t.remove([]byte(key), now)
	if !lived {
		key = ""
	}
	return outcome{changed: changed, key: key}
}

// Keys implements store.Store.
func (s *Store) Keys(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return store.KeysOf(s.entries(ctx, walk{prefix: []byte(prefix)}))
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, folder string) iter.Seq2[store.Entry, error] {
	return store.InFolder(folder, s.entries(ctx, walk{prefix: []byte(folder), shallow: true}))
}

// entries yields what a walk meets, in a transaction for each page.
func (s *Store) entries(ctx context.Context, w walk) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for from := w.prefix; from != nil; {
			page, next, err := s.page(ctx, w, from)
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
			}
			if err != nil {
				yield(store.Entry{}, err)
				return
			}
			from = next
		}
	}
}

// page returns one page of a walk and where the next one begins, which is nil
// after the last one.
func (s *Store) page(ctx context.Context, w walk, from []byte) (page []store.Entry, next []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	err = s.view(func(tx *bbolt.Tx) error {
		t, err := tablesOf(tx)
		if err != nil {
			return err
		}
		page, next, err = w.page(t.records.Cursor(), from)
		return err
	})
	return page, next, err
}

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, prefix string) (<-chan string, error) {
	return s.hub.Watch(ctx, prefix)
}

// Close implements store.Store. Changes that the writer has begun are finished
// first.
func (s *Store) Close() error {
	var err error
	s.closeOnce.Do(func() {
		close(s.closing)
		s.hub.Close()
		select {
		case <-s.stopped:
			err = s.release()
		case <-s.abandoned:
			err = letGo(s.file)
		}
	})
	return err
}

// release closes the database, or no more than its file, and with it the lock,
// where bbolt may be hanging in locks of its own.
func (s *Store) release() error {
	if s.spoilt != nil || s.isAbandoned() {
		return letGo(s.file)
	}
	return s.db.Close()
}

func check(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return store.CheckKey(key)
}
