package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// patience bounds how long a test waits for a notification that must come.
const patience = 10 * time.Second

func watch(t *testing.T, ctx context.Context, s store.Store, prefix string) <-chan string {
	t.Helper()
	keys, err := s.Watch(ctx, prefix)
	if err != nil {
		t.Fatalf("Watch(%q): %v", prefix, err)
	}
	return keys
}

func wantKey(t *testing.T, keys <-chan string, want string) {
	t.Helper()
	select {
	case got, ok := <-keys:
		if !ok {
			t.Fatalf("the channel was closed before the key %q came", want)
		}
		if got != want {
			t.Fatalf("got the key %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("the key %q did not come", want)
	}
}

// wantClosed takes what is left in the channel, until it is closed.
func wantClosed(t *testing.T, keys <-chan string) {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case _, ok := <-keys:
			if !ok {
				return
			}
		case <-timeout:
			t.Fatal("the channel was not closed")
		}
	}
}

var watchRules = []rule{
	{"every change under the prefix is reported", func(t *testing.T, s store.Store) {
		keys := watch(t, t.Context(), s, "w/")
		all := watch(t, t.Context(), s, "")
		put(t, s, "w/put", value("v"))
		wantKey(t, keys, "w/put")
		put(t, s, "w/put", lasting("w"))
		wantKey(t, keys, "w/put")
		if err := increment(t.Context(), s, "w/update"); err != nil {
			t.Fatal(err)
		}
		wantKey(t, keys, "w/update")
		remove(t, s, "w/put")
		wantKey(t, keys, "w/put")
		err := s.Update(t.Context(), "w/update", func(store.Record) (store.Record, error) {
			return store.Record{}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		wantKey(t, keys, "w/update")
		for _, want := range []string{"w/put", "w/put", "w/update", "w/put", "w/update"} {
			wantKey(t, all, want)
		}
	}},
	{"other prefixes, earlier and failed writes are not reported", func(t *testing.T, s store.Store) {
		put(t, s, "w/earlier", value("v"))
		keys := watch(t, t.Context(), s, "w/")
		put(t, s, "v/1", value("v"))
		put(t, s, "w", value("v"))
		if err := s.Put(t.Context(), "w/refused", store.Record{}); err == nil {
			t.Error("Put took a record without a value")
		}
		_ = s.Update(t.Context(), "w/failed", func(store.Record) (store.Record, error) {
			return value("v"), context.Canceled
		})
		put(t, s, "w/last", value("v"))
		wantKey(t, keys, "w/last")
	}},
	{"a reported change can be read", func(t *testing.T, s store.Store) {
		keys := watch(t, t.Context(), s, "")
		done := make(chan error, 1)
		go func() { done <- s.Put(t.Context(), "k", value("new")) }()
		wantKey(t, keys, "k")
		wantRecord(t, s, "k", value("new"))
		if err := <-done; err != nil {
			t.Errorf("Put: %v", err)
		}
	}},
	{"a watch ends with its context, and others do not", func(t *testing.T, s store.Store) {
		ctx, cancel := context.WithCancel(t.Context())
		keys := watch(t, ctx, s, "")
		other := watch(t, t.Context(), s, "")
		cancel()
		wantClosed(t, keys)
		put(t, s, "k", value("v"))
		wantKey(t, other, "k")
	}},
	{"a watch ends with its store", func(t *testing.T, s store.Store) {
		keys := watch(t, t.Context(), s, "")
		closeStore(t, s)
		wantClosed(t, keys)
	}},
	{"a slow reader misses nothing without being told", checkSlowReader},
}

// checkSlowReader writes without reading what is reported: in the end either
// everything must be there or the channel closed.
func checkSlowReader(t *testing.T, s store.Store) {
	keys := watch(t, t.Context(), s, "w/")
	const writers, each = 50, 100
	race(writers, func(g int) {
		for i := range each {
			if err := s.Put(t.Context(), fmt.Sprintf("w/%d/%d", g, i), value("v")); err != nil {
				t.Errorf("Put: %v", err)
				return
			}
		}
	})
	seen := make(map[string]bool)
	timeout := time.After(patience)
	for len(seen) < writers*each {
		select {
		case key, ok := <-keys:
			if !ok {
				again := watch(t, t.Context(), s, "w/")
				put(t, s, "w/again", value("v"))
				wantKey(t, again, "w/again")
				return
			}
			seen[key] = true
		case <-timeout:
			t.Fatalf("only %d of %d keys came, and the channel is open", len(seen), writers*each)
		}
	}
}
