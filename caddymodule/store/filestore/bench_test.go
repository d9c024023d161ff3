package filestore

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

const benchRecords = 10_000

// BenchmarkUpdate compares this package's group commit with bbolt as it comes.
// All of them replace a record of 300 bytes among ten thousand, each time in
// another page, durably; only the ratios within one run mean anything.
func BenchmarkUpdate(b *testing.B) {
	engines := []struct {
		name string
		open func(b *testing.B) (update func(ctx context.Context, key string) error)
	}{
		{"group commit", func(b *testing.B) func(context.Context, string) error {
			s := openAt(b, filepath.Join(b.TempDir(), "state.db"))
			fill(b, s, benchRecords)
			return func(ctx context.Context, key string) error {
				return s.Update(ctx, key, func(store.Record) (store.Record, error) {
					return store.Record{Value: make([]byte, 300)}, nil
				})
			}
		}},
		{"bbolt Update", func(b *testing.B) func(context.Context, string) error {
			db := rawBolt(b)
			return func(_ context.Context, key string) error { return db.Update(rawUpdate(key)) }
		}},
		{"bbolt Batch", func(b *testing.B) func(context.Context, string) error {
			db := rawBolt(b)
			return func(_ context.Context, key string) error { return db.Batch(rawUpdate(key)) }
		}},
	}
	for _, callers := range []int{1, 16, 64} {
		for _, e := range engines {
			b.Run(fmt.Sprintf("%d callers/%s", callers, e.name), func(b *testing.B) {
				update := e.open(b)
				b.ResetTimer()
				inParallel(b, callers, func(i int) error { return update(b.Context(), recordKey(i*6151%benchRecords)) })
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "updates/s")
			})
		}
	}
}

// inParallel calls fn b.N times, by as many goroutines as there are callers.
func inParallel(b *testing.B, callers int, fn func(i int) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for {
				i := int(next.Add(1))
				if i > b.N {
					return
				}
				if err := fn(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func rawBolt(b *testing.B) *bbolt.DB {
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "raw.db"), 0o600, &bbolt.Options{
		FreelistType: bbolt.FreelistMapType, NoStatistics: true,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	err = db.Update(func(tx *bbolt.Tx) error {
		records, err := tx.CreateBucket(recordsBucket)
		for i := 0; i < benchRecords && err == nil; i++ {
			err = records.Put([]byte(recordKey(i)), make([]byte, 308))
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return db
}

// rawUpdate reads a record and replaces it, which is the least that an atomic
// update does.
func rawUpdate(key string) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		records := tx.Bucket(recordsBucket)
		_ = records.Get([]byte(key))
		return records.Put([]byte(key), make([]byte, 308))
	}
}

// BenchmarkGet reads from a store of some size, beside bbolt's own share.
func BenchmarkGet(b *testing.B) {
	const n = benchRecords
	s := openAt(b, filepath.Join(b.TempDir(), "state.db"))
	fill(b, s, n)
	b.Run("store", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := s.Get(b.Context(), recordKey(i%n)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("bbolt View", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			err := s.db.View(func(tx *bbolt.Tx) error {
				_ = append([]byte(nil), tx.Bucket(recordsBucket).Get([]byte(recordKey(i%n)))...)
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkOpen shows that a start does not get slower with the number of
// records, beyond the bounded look that Open takes at them.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{0, checkAtOpen, 10 * checkAtOpen} {
		b.Run(fmt.Sprintf("%d records", n), func(b *testing.B) {
			path := filled(b, n)
			for b.Loop() {
				s, err := Open(path)
				if err != nil {
					b.Fatal(err)
				}
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
