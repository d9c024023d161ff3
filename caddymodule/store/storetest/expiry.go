package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// life is how long the records live that a test waits for.
const life = 60 * time.Millisecond

// putShort writes a record that expires soon, and returns when.
func putShort(t *testing.T, s store.Store, key string) time.Time {
	t.Helper()
	expires := time.Now().Add(life)
	put(t, s, key, store.Record{Value: []byte("short"), Expires: expires})
	return expires
}

// waitFor returns when the moment has passed, also for a store whose clock is
// in another process.
func waitFor(moment time.Time) {
	time.Sleep(time.Until(moment) + 20*time.Millisecond)
}

var expiryRules = []rule{
	{"a record lives until its expiry and not longer", func(t *testing.T, s store.Store) {
		expires := time.Now().Add(life)
		r := store.Record{Value: []byte("v"), Expires: expires}
		put(t, s, "k", r)
		for {
			got, err := s.Get(t.Context(), "k")
			if !time.Now().Before(expires.Add(-time.Millisecond)) {
				break // too late to say anything about what was got
			}
			if err != nil {
				t.Fatalf("Get before the expiry: %v", err)
			}
			wantSame(t, got, r)
		}
		waitFor(expires)
		wantAbsent(t, s, "k")
	}},
	{"an expired record is absent for every method", func(t *testing.T, s store.Store) {
		put(t, s, "k/lasting", lasting("v"))
		waitFor(putShort(t, s, "k/short"))
		wantKeys(t, s, "k/", "k/lasting")
		err := s.Update(t.Context(), "k/short", func(r store.Record) (store.Record, error) {
			if r.Exists() || !r.Expires.IsZero() {
				t.Errorf("Update sees the expired record %q", r.Value)
			}
			return store.Record{}, nil
		})
		if err != nil {
			t.Errorf("Update: %v", err)
		}
		wantAbsent(t, s, "k/short")
	}},
	{"an expired record can be deleted and written again", func(t *testing.T, s store.Store) {
		first, second := putShort(t, s, "a"), putShort(t, s, "b")
		waitFor(first)
		waitFor(second)
		remove(t, s, "a")
		wantAbsent(t, s, "a")
		put(t, s, "b", value("new"))
		wantRecord(t, s, "b", value("new"))
	}},
	{"a later write decides about the expiry", func(t *testing.T, s store.Store) {
		expires := putShort(t, s, "put/none")
		put(t, s, "put/none", value("v"))
		putShort(t, s, "put/longer")
		longer := lasting("v")
		put(t, s, "put/longer", longer)
		putShort(t, s, "update/none")
		err := s.Update(t.Context(), "update/none", func(r store.Record) (store.Record, error) {
			if !r.Exists() { // a very slow machine may be too late
				r = value("short")
			}
			r.Expires = time.Time{}
			return r, nil
		})
		if err != nil {
			t.Fatalf("Update: %v", err)
		}
		put(t, s, "put/shorter", lasting("v"))
		last := putShort(t, s, "put/shorter")

		waitFor(expires)
		waitFor(last)
		wantRecord(t, s, "put/none", value("v"))
		wantRecord(t, s, "put/longer", longer)
		wantRecord(t, s, "update/none", value("short"))
		wantAbsent(t, s, "put/shorter")
	}},
	{"an update that keeps the expiry does not prolong it", func(t *testing.T, s store.Store) {
		expires := putShort(t, s, "k")
		err := s.Update(t.Context(), "k", func(r store.Record) (store.Record, error) {
			if r.Exists() { // a very slow machine may be too late
				r.Value = []byte("changed")
			}
			return r, nil
		})
		if err != nil && time.Now().Before(expires) {
			t.Fatalf("Update: %v", err)
		}
		waitFor(expires)
		wantAbsent(t, s, "k")
	}},
	{"a sweep removes what has expired and nothing else", checkSweep},
}

func checkSweep(t *testing.T, s store.Store) {
	sweeper, ok := s.(store.Sweeper)
	if !ok {
		t.Skip("the store removes expired records by itself")
	}
	sweep := func(now time.Time, want int) {
		t.Helper()
		if got, err := sweeper.Sweep(t.Context(), now); got != want || err != nil {
			t.Fatalf("Sweep removed %d records, %v; want %d", got, err, want)
		}
	}
	sweep(time.Now(), 0)

	base := time.Now().Add(time.Hour).Truncate(time.Second)
	for i := range 10 {
		put(t, s, fmt.Sprintf("hour/%d", i), store.Record{Value: []byte("v"), Expires: base})
	}
	put(t, s, "later", store.Record{Value: []byte("v"), Expires: base.Add(time.Millisecond)})
	put(t, s, "never", value("v"))
	put(t, s, "prolonged", store.Record{Value: []byte("v"), Expires: base})
	put(t, s, "prolonged", store.Record{Value: []byte("v"), Expires: base.Add(time.Hour)})
	put(t, s, "deleted", store.Record{Value: []byte("v"), Expires: base})
	remove(t, s, "deleted")

	sweep(time.Now(), 0)
	sweep(base.Add(-time.Millisecond), 0)
	sweep(base, 10)
	sweep(base, 0)
	wantKeys(t, s, "", "later", "never", "prolonged")
	sweep(base.Add(2*time.Hour), 2)
	wantKeys(t, s, "", "never")
}
