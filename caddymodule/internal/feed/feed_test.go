package feed_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/feed"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// other is a store in which other nodes write, together with what a node does that
// follows it.
type other struct {
	store.Store
	begun  time.Time
	logs   *observer.ObservedLogs
	cancel context.CancelFunc
	done   chan struct{} // closed at the end of the feed

	mu      sync.Mutex
	did     []string         // in the order in which it happened, with the time since the test began
	fails   map[string]error // what fails, and how
	written chan string      // the keys that the watch tells
	end     func()           // of the watch
	watch   context.Context  // that it was asked for
}

func (o *other) do(what string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.did = append(o.did, fmt.Sprintf("%v %s", time.Since(o.begun), what))
	return o.fails[what]
}

// Watch implements store.Store.
func (o *other) Watch(ctx context.Context, prefix string) (<-chan string, error) {
	written := make(chan string, 1)
	end := sync.OnceFunc(func() { close(written) })
	context.AfterFunc(ctx, end)
	o.mu.Lock()
	o.written, o.end, o.watch = written, end, ctx
	o.mu.Unlock()
	return written, o.do("watch " + prefix)
}

// follow runs a feed in a bubble until the test ends.
func follow(t *testing.T, fails map[string]error) *other {
	core, logs := observer.New(zapcore.DebugLevel)
	o := &other{begun: time.Now(), logs: logs, done: make(chan struct{}), fails: fails}
	ctx, cancel := context.WithCancel(t.Context())
	o.cancel = cancel
	go func() {
		defer close(o.done)
		feed.Feed{
			Store: o, Prefix: "x/", What: "the revocations", Log: zap.New(core),
			Load:    func(context.Context) error { return o.do("load") },
			Changed: func(_ context.Context, key string) error { return o.do(key) },
		}.Follow(ctx)
	}()
	synctest.Wait()
	return o
}

// ended reports whether the feed has come to its end.
func (o *other) ended() bool {
	synctest.Wait()
	select {
	case <-o.done:
		return true
	default:
		return false
	}
}

func (o *other) fail(fails map[string]error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fails = fails
}

// write tells the watch of a key, if there is one.
func (o *other) write(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.watch.Err() == nil {
		o.written <- key
	}
}

// want demands what was done since the last time.
func (o *other) want(t *testing.T, did ...string) {
	t.Helper()
	synctest.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	if !slices.Equal(o.did, did) {
		t.Errorf("did %q, want %q", o.did, did)
	}
	o.did = nil
}

func TestWhatOtherNodesWriteIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := follow(t, nil)
		// What is written between the watch and the reading is told by the watch.
		o.want(t, "0s watch x/", "0s load")
		o.write("x/a")
		o.want(t, "0s x/a")
		time.Sleep(time.Minute)
		o.want(t, "1m0s load")
		o.write("x/b")
		time.Sleep(time.Minute)
		o.want(t, "1m0s x/b", "2m0s load")
		o.cancel()
		if !o.ended() || o.watch.Err() == nil {
			t.Error("it does not end with its context")
		}
		if o.logs.Len() > 0 {
			t.Errorf("the log has %v", o.logs.All())
		}
	})
}

func TestAfterAFaultEverythingIsReadAgain(t *testing.T) {
	for fails, tt := range map[string]struct{ during, after []string }{
		"watch x/": {[]string{"0s watch x/", "1s watch x/"}, []string{"2s watch x/", "2s load"}},
		"load":     {[]string{"0s watch x/", "0s load", "1s watch x/", "1s load"}, []string{"2s watch x/", "2s load"}},
		"x/a":      {[]string{"0s watch x/", "0s load", "0s x/a", "1s watch x/", "1s load"}, nil},
	} {
		t.Run(fails, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := follow(t, map[string]error{fails: errors.New("the store is away")})
				o.write("x/a")
				time.Sleep(1500 * time.Millisecond)
				o.want(t, tt.during...)
				if o.logs.FilterLevelExact(zapcore.WarnLevel).FilterMessage("lost sight of the revocations of other nodes; trying again").Len() == 0 {
					t.Errorf("the log has %v", o.logs.All())
				}
				o.fail(nil)
				time.Sleep(time.Second)
				o.want(t, tt.after...)
			})
		})
	}
}

func TestAFaultOfALaterReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := follow(t, nil)
		o.fail(map[string]error{"load": errors.New("the store is away")})
		first := o.watch
		time.Sleep(time.Minute)
		synctest.Wait()
		if first.Err() == nil {
			t.Error("the watch goes on, which nobody reads")
		}
		o.fail(nil)
		time.Sleep(time.Second)
		o.want(t, "0s watch x/", "0s load", "1m0s load", "1m1s watch x/", "1m1s load")
	})
}

// A watch that ends has missed something.
func TestAfterAWatchTheNextOneBegins(t *testing.T) {
	for name, tt := range map[string]struct {
		age  time.Duration
		next string
	}{
		"that has worked, at once":                    {time.Second, "1s"},
		"that ends again and again, after a second":   {0, "1s"},
		"that has worked for long, at once":           {30 * time.Second, "30s"},
		"that has worked for a moment, after a while": {500 * time.Millisecond, "1.5s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := follow(t, nil)
				time.Sleep(tt.age)
				o.end()
				time.Sleep(time.Second)
				o.want(t, "0s watch x/", "0s load", tt.next+" watch x/", tt.next+" load")
				if o.logs.Len() > 0 {
					t.Errorf("the log has %v", o.logs.All())
				}
			})
		})
	}
}

func TestItEndsWithTheStore(t *testing.T) {
	for fails, did := range map[string][]string{
		"watch x/": {"0s watch x/"},
		"load":     {"0s watch x/", "0s load"},
		"x/a":      {"0s watch x/", "0s load", "0s x/a"},
	} {
		t.Run(fails, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := follow(t, map[string]error{fails: fmt.Errorf("reading: %w", store.ErrClosed)})
				o.write("x/a")
				time.Sleep(time.Hour)
				o.want(t, did...)
				if o.logs.Len() > 0 || !o.ended() {
					t.Errorf("it goes on; the log has %v", o.logs.All())
				}
			})
		})
	}
}

func TestItEndsWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := follow(t, map[string]error{"load": errors.New("the store is away")})
		o.cancel()
		if !o.ended() || time.Since(o.begun) > 0 {
			t.Error("it waits on")
		}
	})
}
