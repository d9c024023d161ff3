package storetest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// rule is one thing that every store must do.
type rule struct {
	name  string
	check func(*testing.T, store.Store)
}

// Run checks the contract of store.Store. It calls open for each rule; the
// store must be empty, and Run closes it.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	groups := []struct {
		name  string
		rules []rule
	}{
		{"records", recordRules},
		{"refusals", refusalRules},
		{"expiry", expiryRules},
		{"update", updateRules},
		{"races", raceRules},
		{"keys", keysRules},
		{"list", listRules},
		{"watch", watchRules},
		{"end", endRules},
	}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			for _, r := range g.rules {
				t.Run(r.name, func(t *testing.T) {
					s := open(t)
					t.Cleanup(func() { closeStore(t, s) })
					r.check(t, s)
				})
			}
		})
	}
}

func closeStore(t *testing.T, s store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func value(v string) store.Record { return store.Record{Value: []byte(v)} }

// lasting returns a record with an expiry that no test lives to see.
func lasting(v string) store.Record {
	return store.Record{Value: []byte(v), Expires: time.Now().Add(time.Hour)}
}

func put(t *testing.T, s store.Store, key string, r store.Record) {
	t.Helper()
	if err := s.Put(t.Context(), key, r); err != nil {
		t.Fatalf("Put(%q): %v", key, err)
	}
}

func remove(t *testing.T, s store.Store, key string) {
	t.Helper()
	if err := s.Delete(t.Context(), key); err != nil {
		t.Fatalf("Delete(%q): %v", key, err)
	}
}

// wantRecord checks what Get returns. Stores may cut expiries to milliseconds.
func wantRecord(t *testing.T, s store.Store, key string, want store.Record) {
	t.Helper()
	got, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatalf("Get(%q): %v", key, err)
	}
	wantSame(t, got, want)
}

func wantSame(t *testing.T, got, want store.Record) {
	t.Helper()
	if got.Exists() != want.Exists() || string(got.Value) != string(want.Value) {
		t.Fatalf("got the value %q (exists: %v), want %q (exists: %v)",
			got.Value, got.Exists(), want.Value, want.Exists())
	}
	off := want.Expires.Sub(got.Expires)
	if got.Expires.IsZero() != want.Expires.IsZero() || off.Abs() > time.Millisecond {
		t.Fatalf("got the expiry %v, want %v", got.Expires, want.Expires)
	}
}

func wantAbsent(t *testing.T, s store.Store, key string) {
	t.Helper()
	r, err := s.Get(t.Context(), key)
	if !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("Get(%q) = %q, %v; want ErrNotFound", key, r.Value, err)
	}
	if r.Exists() || !r.Expires.IsZero() {
		t.Fatalf("Get(%q) returned a record beside ErrNotFound", key)
	}
}

// keysOf returns the keys under prefix, sorted. A store may yield a key again.
func keysOf(t *testing.T, s store.Store, prefix string) []string {
	t.Helper()
	var keys []string
	for key, err := range s.Keys(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("Keys(%q): %v", prefix, err)
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

func wantKeys(t *testing.T, s store.Store, prefix string, want ...string) {
	t.Helper()
	if got := keysOf(t, s, prefix); !slices.Equal(got, want) {
		t.Fatalf("Keys(%q) yields %q, want %q", prefix, got, want)
	}
}

// method is a method of a store, called with some key. The returned error is
// its error, for Keys that of the first step.
type method struct {
	name   string
	keyed  bool // it takes a whole key
	writes bool
	call   func(ctx context.Context, s store.Store, key string) error
}

var methods = []method{
	{"Get", true, false, func(ctx context.Context, s store.Store, key string) error {
		_, err := s.Get(ctx, key)
		return err
	}},
	{"Put", true, true, func(ctx context.Context, s store.Store, key string) error {
		return s.Put(ctx, key, value("written"))
	}},
	{"Update", true, true, func(ctx context.Context, s store.Store, key string) error {
		return s.Update(ctx, key, func(store.Record) (store.Record, error) { return value("written"), nil })
	}},
	{"Delete", true, true, func(ctx context.Context, s store.Store, key string) error {
		return s.Delete(ctx, key)
	}},
	{"Keys", false, false, func(ctx context.Context, s store.Store, key string) error {
		for _, err := range s.Keys(ctx, key) {
			return err
		}
		return nil
	}},
	{"List", false, false, func(ctx context.Context, s store.Store, _ string) error {
		for _, err := range s.List(ctx, "") {
			return err
		}
		return nil
	}},
	{"Watch", false, false, func(ctx context.Context, s store.Store, key string) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		_, err := s.Watch(ctx, key)
		return err
	}},
	{"Sweep", false, true, func(ctx context.Context, s store.Store, _ string) error {
		if sweeper, ok := s.(store.Sweeper); ok {
			_, err := sweeper.Sweep(ctx, time.Now())
			return err
		}
		// The rules about errors hold for a store without Sweep as well, since
		// there is nothing to call.
		if err := ctx.Err(); err != nil {
			return err
		}
		return store.ErrClosed
	}},
}
