package storetest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// listed returns what List yields, by key.
func listed(t *testing.T, s store.Store, folder string) map[string]time.Time {
	t.Helper()
	out := map[string]time.Time{}
	for e, err := range s.List(t.Context(), folder) {
		if err != nil {
			t.Fatalf("List(%q): %v", folder, err)
		}
		out[e.Key] = e.Expires
	}
	return out
}

func wantListed(t *testing.T, s store.Store, folder string, want ...string) {
	t.Helper()
	var got []string
	for key := range listed(t, s, folder) {
		got = append(got, key)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("List(%q) yields %q, want %q", folder, got, want)
	}
}

var listRules = []rule{
	{"a list has what lies directly in the folder", func(t *testing.T, s store.Store) {
		for _, key := range []string{"top", "a/1", "a/2", "a/b/3", "a/b/c/4", "a/z", "a/", "aa/5", "a", "a/{x}/6", "{x}/7", "a0", "//8", "/9"} {
			put(t, s, key, value("v"))
		}
		wantListed(t, s, "", "a", "a0", "top")
		wantListed(t, s, "a/", "a/", "a/1", "a/2", "a/z")
		wantListed(t, s, "a/b/", "a/b/3")
		wantListed(t, s, "a/b/c/", "a/b/c/4")
		wantListed(t, s, "a/{x}/", "a/{x}/6")
		wantListed(t, s, "{x}/", "{x}/7")
		wantListed(t, s, "//", "//8")
		wantListed(t, s, "/", "/9")
		wantListed(t, s, "b/")
	}},
	{"a list tells when records expire", func(t *testing.T, s store.Store) {
		r := lasting("v")
		put(t, s, "f/hour", r)
		put(t, s, "f/forever", value("v"))
		got := listed(t, s, "f/")
		if off := got["f/hour"].Sub(r.Expires); off.Abs() > time.Millisecond || !got["f/forever"].IsZero() {
			t.Errorf("got %v, want %v and never", got, r.Expires)
		}
		put(t, s, "f/hour", value("v"))
		put(t, s, "f/forever", r)
		got = listed(t, s, "f/")
		if off := got["f/forever"].Sub(r.Expires); off.Abs() > time.Millisecond || !got["f/hour"].IsZero() {
			t.Errorf("after a change got %v, want the other way round", got)
		}
	}},
	{"a list has no expired and no deleted records", func(t *testing.T, s store.Store) {
		expires := putShort(t, s, "f/short")
		put(t, s, "f/deleted", lasting("v"))
		put(t, s, "f/updated", lasting("v"))
		put(t, s, "f/kept", lasting("v"))
		remove(t, s, "f/deleted")
		err := s.Update(t.Context(), "f/updated", func(store.Record) (store.Record, error) { return store.Record{}, nil })
		if err != nil {
			t.Fatal(err)
		}
		waitFor(expires)
		wantListed(t, s, "f/", "f/kept")
		put(t, s, "f/short", value("again"))
		wantListed(t, s, "f/", "f/kept", "f/short")
	}},
	{"a list of many, and one that stops early", func(t *testing.T, s store.Store) {
		want := putMany(t, s, "many/", 1500)
		putMany(t, s, "many/sub/", 100)
		wantListed(t, s, "many/", want...)
		for _, err := range s.List(t.Context(), "many/") {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		put(t, s, "many/more", value("v"))
	}},
	{"a loop over a list may use the store", func(t *testing.T, s store.Store) {
		putMany(t, s, "f/", 20)
		for e, err := range s.List(t.Context(), "f/") {
			if err != nil {
				t.Fatal(err)
			}
			remove(t, s, e.Key)
		}
		wantListed(t, s, "f/")
	}},
	{"a list ends with its context", func(t *testing.T, s store.Store) {
		putMany(t, s, "f/", 2000) // enough for any store to need several steps
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var last error
		n := 0
		for _, err := range s.List(ctx, "f/") {
			if last != nil {
				t.Fatal("the sequence goes on after an error")
			}
			if last = err; err == nil {
				n++
				cancel()
			}
		}
		if !errors.Is(last, context.Canceled) || n >= 2000 {
			t.Errorf("got %d records and %v, want fewer than all and context.Canceled", n, last)
		}
	}},
	{"only folders have lists", func(t *testing.T, s store.Store) {
		put(t, s, "f/1", value("v"))
		for _, folder := range []string{"f", "f/1", "f /", "f\n/"} {
			n := 0
			for e, err := range s.List(t.Context(), folder) {
				if n++; err == nil {
					t.Errorf("List(%q) yields %q", folder, e.Key)
				}
			}
			if n != 1 {
				t.Errorf("List(%q) yields %d times, want an error once", folder, n)
			}
		}
	}},
}
