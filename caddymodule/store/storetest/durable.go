package storetest

import (
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// RunDurable checks what a store must keep when it is closed and opened again.
// The path given to open lies in a fresh folder for each rule; opened twice
// with the same path, the second store must have what the first one had. A
// store that lives elsewhere can take the path as a name.
func RunDurable(t *testing.T, open func(t *testing.T, path string) store.Store) {
	for _, r := range durableRules {
		t.Run(r.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			var last store.Store
			reopen := func() store.Store {
				if last != nil {
					closeStore(t, last)
				}
				last = open(t, path)
				return last
			}
			defer func() { closeStore(t, last) }()
			r.check(t, reopen)
		})
	}
}

// durableRule gets a function that closes the store, if one is open, and opens
// it again.
type durableRule struct {
	name  string
	check func(t *testing.T, reopen func() store.Store)
}

var durableRules = []durableRule{
	{"records, expiries, changes and deletions are kept", func(t *testing.T, reopen func() store.Store) {
		s := reopen()
		r := lasting("v")
		put(t, s, "put", r)
		put(t, s, "forever", value("v"))
		put(t, s, "empty", store.Record{Value: []byte{}})
		put(t, s, "deleted", value("v"))
		remove(t, s, "deleted")
		for range 3 {
			if err := increment(t.Context(), s, "n"); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			s = reopen()
			wantRecord(t, s, "put", r)
			wantRecord(t, s, "forever", value("v"))
			wantRecord(t, s, "empty", store.Record{Value: []byte{}})
			wantAbsent(t, s, "deleted")
			wantRecord(t, s, "n", value("3"))
			wantKeys(t, s, "", "empty", "forever", "n", "put")
		}
	}},
	{"what expires while the store is closed stays absent", func(t *testing.T, reopen func() store.Store) {
		s := reopen()
		put(t, s, "k/lasting", value("v"))
		expires := putShort(t, s, "k/short")
		closeStore(t, s)
		waitFor(expires)
		s = reopen()
		wantAbsent(t, s, "k/short")
		wantKeys(t, s, "k/", "k/lasting")
		if sweeper, ok := s.(store.Sweeper); ok {
			if n, err := sweeper.Sweep(t.Context(), time.Now()); n != 1 || err != nil {
				t.Errorf("Sweep removed %d records, %v; want the expired one", n, err)
			}
		}
		s = reopen()
		wantAbsent(t, s, "k/short")
		wantRecord(t, s, "k/lasting", value("v"))
	}},
	{"what a sweep removed stays removed", func(t *testing.T, reopen func() store.Store) {
		s := reopen()
		sweeper, ok := s.(store.Sweeper)
		if !ok {
			t.Skip("the store removes expired records by itself")
		}
		put(t, s, "hour", lasting("v"))
		put(t, s, "forever", value("v"))
		if n, err := sweeper.Sweep(t.Context(), time.Now().Add(2*time.Hour)); n != 1 || err != nil {
			t.Errorf("Sweep removed %d records, %v; want 1", n, err)
		}
		wantKeys(t, reopen(), "", "forever")
	}},
	{"whatever was acknowledged before the end is kept", checkEndUnderLoad},
}

// checkEndUnderLoad closes a store in the middle of writing. What a writer was
// told is on disk must be there afterwards, and at most one write more.
func checkEndUnderLoad(t *testing.T, reopen func() store.Store) {
	s := reopen()
	const writers = 16
	acknowledged := make([]int, writers)
	var wg sync.WaitGroup
	enough := make(chan struct{})
	for g := range writers {
		wg.Go(func() {
			for {
				if err := increment(t.Context(), s, "n/"+strconv.Itoa(g)); err != nil {
					return
				}
				if acknowledged[g]++; g == 0 && acknowledged[g] == 20 {
					close(enough)
				}
			}
		})
	}
	select {
	case <-enough:
	case <-time.After(patience):
		t.Error("20 writes took too long")
	}
	again := reopen()
	wg.Wait()
	for g, n := range acknowledged {
		r, err := again.Get(t.Context(), "n/"+strconv.Itoa(g))
		if err != nil && n > 0 {
			t.Fatalf("Get: %v after %d acknowledged writes", err, n)
		}
		if err == nil && !slices.Contains([]string{strconv.Itoa(n), strconv.Itoa(n + 1)}, string(r.Value)) {
			t.Errorf("the counter is at %s after %d acknowledged writes", r.Value, n)
		}
	}
}
