package authserver_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/filestore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/redisstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/redisstore/redistest"
)

var scaleTo = flag.Int("scale", 100_000, "the most grants that BenchmarkScale fills a store with")

// scaled is a store that can be filled, measured and opened again.
type scaled interface {
	open(b *testing.B) store.Store
	size(b *testing.B) float64 // in bytes
}

// BenchmarkScale fills a store with grants of as many users and measures what
// depends on their number: the start, a read, a list, a code exchange, and the
// room that a grant takes.
func BenchmarkScale(b *testing.B) {
	for name, engine := range map[string]func(*testing.B) scaled{
		"file":  func(b *testing.B) scaled { return scaledFile(filepath.Join(b.TempDir(), "state.db")) },
		"redis": func(b *testing.B) scaled { return &scaledRedis{redistest.StartServer(b, "--appendfsync", "everysec")} },
	} {
		for _, grants := range []int{1_000, 100_000, 1_000_000} {
			if grants > *scaleTo {
				continue
			}
			b.Run(fmt.Sprintf("%s/grants=%d", name, grants), func(b *testing.B) {
				for b.Loop() {
					// What follows is measured once, and by itself.
				}
				e := engine(b)
				s := e.open(b)
				site := newBenchSite(b, s)
				empty := e.size(b)
				keys := fill(b, s, site, grants)
				b.ReportMetric((e.size(b)-empty)/float64(grants), "B/grant")
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				var starts []time.Duration
				for range 5 {
					began := time.Now()
					s = e.open(b)
					site = newBenchSite(b, s)
					starts = append(starts, time.Since(began))
					if len(starts) < 5 {
						_ = s.Close()
					}
				}
				slices.Sort(starts)
				codes := site.codes(b)
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(starts[2].Microseconds())/1000, "ms/start")
				b.ReportMetric(1e6/rate(b, 1, func(i int) error {
					_, err := s.Get(b.Context(), keys[i*7919%len(keys)])
					return err
				}), "µs/get")
				b.ReportMetric(1e6/rate(b, 1, func(i int) error {
					for _, err := range s.List(b.Context(), store.Folder(keys[i*7919%len(keys)])) {
						if err != nil {
							return err
						}
					}
					return nil
				}), "µs/list")
				b.ReportMetric(rate(b, 16, func(i int) error { return site.exchange(codes[i]) }), "exchanges/s")
				_ = s.Close()
			})
		}
	}
}

// fill puts copies of a real grant into a store and returns their keys.
func fill(b *testing.B, s store.Store, site *benchSite, grants int) []string {
	b.Helper()
	if err := site.exchange(site.codes(b)[0]); err != nil {
		b.Fatal(err)
	}
	var model store.Record
	for key, err := range s.Keys(b.Context(), "test/grant/") {
		if err != nil {
			b.Fatal(err)
		}
		r, err := s.Get(b.Context(), key)
		if err == nil && len(r.Value) > len(model.Value) { // the one that was used is the longest
			model = r
		}
	}
	const callers = 512
	keys := make([]string, grants)
	errs := make(chan error, callers)
	for c := range callers {
		go func() {
			for i := c; i < grants; i += callers {
				keys[i] = "test/grant/" + strings.TrimPrefix(grantKey(0, i), "raw/")
				if err := s.Put(context.Background(), keys[i], model); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range callers {
		if err := <-errs; err != nil {
			b.Fatal(err)
		}
	}
	return keys
}

type scaledFile string

func (f scaledFile) open(b *testing.B) store.Store {
	s, err := filestore.Open(string(f))
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func (f scaledFile) size(b *testing.B) float64 {
	info, err := os.Stat(string(f))
	if err != nil {
		b.Fatal(err)
	}
	return float64(info.Size())
}

type scaledRedis struct{ *redistest.Server }

func (r *scaledRedis) open(b *testing.B) store.Store {
	s, err := redisstore.Open(b.Context(), redisstore.Config{URL: "redis://" + r.Addr, PoolSize: 64})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func (r *scaledRedis) size(b *testing.B) float64 {
	client := redis.NewClient(&redis.Options{Addr: r.Addr})
	defer client.Close()
	info, err := client.Info(b.Context(), "memory").Result()
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(info, "used_memory:")
	digits, _, _ := strings.Cut(rest, "\r")
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}
