package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/redisstore/redistest"
)

const benchRecords = 10_000

func recordKey(i int) string { return "folder" + strconv.Itoa(i/10) + "/" + strconv.Itoa(i) }

// benchRecord is of the size of a typical one and expires like most of them.
func benchRecord() store.Record {
	return store.Record{Value: make([]byte, 300), Expires: time.Now().Add(time.Hour)}
}

// fill writes n records into folders of ten.
func fill(b *testing.B, s *Store, n int) {
	b.Helper()
	const writers = 64
	inParallel(writers, func(g int) {
		for i := g; i < n; i += writers {
			if err := s.Put(b.Context(), recordKey(i), benchRecord()); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// compareAndSet is the least that an atomic change needs: no index, no expiry and
// nobody to tell.
const compareAndSet = `
if redis.call('GETRANGE', KEYS[1], 0, 15) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1`

// BenchmarkUpdate compares Update, which is a read and a script, with a single
// script that compares and sets, on the same server, which syncs each write to
// disk. Only the ratios within one run mean anything.
func BenchmarkUpdate(b *testing.B) {
	server := redistest.StartServer(b)
	s := open(b, Config{URL: "redis://" + server.Addr})
	fill(b, s, benchRecords)
	script := redis.NewScript(compareAndSet)
	raw := string(make([]byte, 325))
	for i := range benchRecords {
		if err := s.client.Set(b.Context(), "raw"+strconv.Itoa(i), raw, 0).Err(); err != nil {
			b.Fatal(err)
		}
	}
	engines := []struct {
		name   string
		update func(ctx context.Context, i int) error
	}{
		{"store", func(ctx context.Context, i int) error {
			return s.Update(ctx, recordKey(i), func(store.Record) (store.Record, error) { return benchRecord(), nil })
		}},
		{"raw compare and set", func(ctx context.Context, i int) error {
			return script.Run(ctx, s.client, []string{"raw" + strconv.Itoa(i)}, raw[:16], raw).Err()
		}},
	}
	for _, callers := range []int{1, 16, 64} {
		for _, e := range engines {
			b.Run(fmt.Sprintf("%d callers/%s", callers, e.name), func(b *testing.B) {
				shareOut(b, callers, func(i int) error { return e.update(b.Context(), i*6151%benchRecords) })
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "updates/s")
			})
		}
	}
}

// BenchmarkUpdateOfOneRecord is the worst case, where all callers collide.
func BenchmarkUpdateOfOneRecord(b *testing.B) {
	server := redistest.StartServer(b)
	s := open(b, Config{URL: "redis://" + server.Addr})
	for _, callers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("%d callers", callers), func(b *testing.B) {
			shareOut(b, callers, func(int) error { return increment(b.Context(), s, "n") })
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "updates/s")
		})
	}
}

// shareOut calls fn b.N times, by as many goroutines as there are callers.
func shareOut(b *testing.B, callers int, fn func(i int) error) {
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

// BenchmarkRead reads records one by one, and folders of ten, out of a store of
// a hundred thousand records. It also tells what a record costs in memory.
func BenchmarkRead(b *testing.B) {
	const n = 100_000
	server := redistest.StartServer(b, "--appendfsync", "no")
	s := open(b, Config{URL: "redis://" + server.Addr})
	fill(b, s, n)
	b.Run("Get", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := s.Get(b.Context(), recordKey(i*6151%n)); err != nil {
				b.Fatal(err)
			}
		}
		index := s.client.MemoryUsage(b.Context(), s.index("folder7/")).Val()
		record := s.client.MemoryUsage(b.Context(), s.place(recordKey(70)).record).Val()
		b.ReportMetric(float64(record)+float64(index)/10, "bytes/record")
	})
	b.Run("raw GET", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if err := s.client.Get(b.Context(), s.place(recordKey(i*6151%n)).record).Err(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("List of 10", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			found := 0
			for _, err := range s.List(b.Context(), "folder"+strconv.Itoa(i*6151%(n/10))+"/") {
				if err != nil {
					b.Fatal(err)
				}
				found++
			}
			if found != 10 {
				b.Fatalf("found %d records", found)
			}
		}
	})
}
