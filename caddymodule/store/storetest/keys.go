package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

var keysRules = []rule{
	{"keys are chosen by their literal beginning", func(t *testing.T, s store.Store) {
		all := []string{"a", "a*b", "a/1", "a/2", "a?b", "a[x]b", "aXb", "b/1", "{a}/1", "\\a", "~~"}
		for _, key := range all {
			put(t, s, key, value("v"))
		}
		slices.Sort(all)
		wantKeys(t, s, "", all...)
		wantKeys(t, s, "a/", "a/1", "a/2")
		wantKeys(t, s, "a/1", "a/1")
		wantKeys(t, s, "a*", "a*b")
		wantKeys(t, s, "a?", "a?b")
		wantKeys(t, s, "a[", "a[x]b")
		wantKeys(t, s, "{a}", "{a}/1")
		wantKeys(t, s, "\\", "\\a")
		wantKeys(t, s, "~~", "~~")
		wantKeys(t, s, "c")
		wantKeys(t, s, "a/1/")
	}},
	{"each of many keys comes", func(t *testing.T, s store.Store) {
		want := putMany(t, s, "many/", 1500)
		put(t, s, "many", value("v"))
		put(t, s, "many0", value("v"))
		wantKeys(t, s, "many/", want...)
	}},
	{"a loop over keys may stop early", func(t *testing.T, s store.Store) {
		for _, key := range []string{"a", "b", "c"} {
			put(t, s, key, value("v"))
		}
		n := 0
		for _, err := range s.Keys(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			n++
			break
		}
		if n != 1 {
			t.Errorf("the loop ran %d times", n)
		}
		put(t, s, "d", value("v"))
	}},
	{"a loop over keys may use the store", func(t *testing.T, s store.Store) {
		for i := range 20 {
			put(t, s, fmt.Sprintf("k/%d", i), value("v"))
		}
		for key, err := range s.Keys(t.Context(), "k/") {
			if err != nil {
				t.Fatal(err)
			}
			wantRecord(t, s, key, value("v"))
			put(t, s, "seen/"+key, value("v"))
			remove(t, s, key)
		}
		wantKeys(t, s, "k/")
		if n := len(keysOf(t, s, "seen/")); n != 20 {
			t.Errorf("the loop saw %d keys, want 20", n)
		}
	}},
	{"a loop over keys ends with its context", func(t *testing.T, s store.Store) {
		putMany(t, s, "k/", 2000) // enough for any store to need several steps
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var last error
		n := 0
		for _, err := range s.Keys(ctx, "k/") {
			if last != nil {
				t.Fatal("the sequence goes on after an error")
			}
			if last = err; err == nil {
				n++
				cancel()
			}
		}
		if !errors.Is(last, context.Canceled) || n >= 2000 {
			t.Errorf("got %d keys and %v, want fewer than all and context.Canceled", n, last)
		}
	}},
}

// putMany writes n records, many at a time as each may cost a sync, and returns
// their keys in order.
func putMany(t *testing.T, s store.Store, prefix string, n int) []string {
	t.Helper()
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("%s%06d", prefix, i)
	}
	const writers = 50
	race(writers, func(g int) {
		for i := g; i < n; i += writers {
			if err := s.Put(t.Context(), keys[i], lasting(keys[i])); err != nil {
				t.Errorf("Put: %v", err)
				return
			}
		}
	})
	return keys
}
