package filestore

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// overwrite changes bytes of a file in place, as seen through its memory map.
func overwrite(t *testing.T, path string, at int64, with []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(with, at); err != nil {
		t.Fatal(err)
	}
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// useAll makes every kind of call and reports how many were answered with an
// ErrDamaged. Any other surprise is a failure, and so is a panic.
func useAll(t *testing.T, s *Store, n int) (damaged int) {
	t.Helper()
	note := func(what string, err error) {
		t.Helper()
		switch {
		case errors.Is(err, ErrDamaged):
			damaged++
		case err != nil && !errors.Is(err, store.ErrNotFound):
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range n {
		_, err := s.Get(t.Context(), recordKey(i))
		note("Get", err)
	}
	for _, err := range s.Keys(t.Context(), "") {
		note("Keys", err)
	}
	for i := range 5 {
		note("Put", s.Put(t.Context(), recordKey(i*n/5), record("w")))
		note("Delete", s.Delete(t.Context(), recordKey(i*n/5+1)))
	}
	_, err := s.Sweep(t.Context(), time.Now().Add(2*time.Hour))
	note("Sweep", err)
	_, err = s.Check(t.Context())
	note("Check", err)
	return damaged
}

func TestDamageAtRunTimeIsAnError(t *testing.T) {
	const n = 3000
	path := filepath.Join(t.TempDir(), "state.db")
	s := openAt(t, path)
	fill(t, s, n)
	// All pages but the headers.
	overwrite(t, path, minSize, make([]byte, size(t, path)-minSize))
	if useAll(t, s, n) < n {
		t.Error("some reads of destroyed pages went well")
	}
	// What is written after that would be built upon sand.
	if err := s.Put(t.Context(), "k", record("v")); !errors.Is(err, ErrDamaged) {
		t.Errorf("Put: %v, want an ErrDamaged", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	wantRefused(t, path, ErrDamaged, "restore it from a backup")
	wantLockFree(t, path)
}

func TestAFileThatIsCutOffWhileInUseIsAnError(t *testing.T) {
	for name, left := range map[string]int64{"to nothing": 0, "after the headers": 2 * 4096} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			s := openAt(t, path)
			fill(t, s, 100)
			if err := os.Truncate(path, left); err != nil {
				t.Fatal(err)
			}
			if useAll(t, s, 100) < 100 {
				t.Error("some calls went well without a file")
			}
			if err := s.Put(t.Context(), "k", record("v")); !errors.Is(err, ErrDamaged) {
				t.Errorf("Put: %v, want an ErrDamaged", err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			if _, err := s.Get(t.Context(), "k"); !errors.Is(err, store.ErrClosed) {
				t.Errorf("Get: %v, want ErrClosed", err)
			}
			wantLockFree(t, path)
		})
	}
}

func TestARecordThatCannotBeReadIsMendedByWritingIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := openAt(t, path)
	spoil := func() {
		err := s.db.Update(func(tx *bbolt.Tx) error {
			return tx.Bucket(recordsBucket).Put([]byte("k"), []byte("short"))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	put(t, s, "k", "v")
	spoil()
	if _, err := s.Get(t.Context(), "k"); !errors.Is(err, ErrDamaged) {
		t.Errorf("Get: %v, want an ErrDamaged", err)
	}
	err := s.Update(t.Context(), "k", func(r store.Record) (store.Record, error) {
		t.Error("the update function got a record that cannot be read")
		return r, nil
	})
	if !errors.Is(err, ErrDamaged) {
		t.Errorf("Update: %v, want an ErrDamaged", err)
	}
	// The index still has the entry of the spoilt record, which must not remove
	// the new one.
	lasting := store.Record{Value: []byte("w"), Expires: time.Now().Add(3 * time.Hour)}
	if err := s.Put(t.Context(), "k", lasting); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Sweep(t.Context(), time.Now().Add(2*time.Hour)); n != 0 || err != nil {
		t.Errorf("Sweep removed %d records, %v; want none", n, err)
	}
	if n, err := s.Check(t.Context()); n != 1 || err != nil {
		t.Errorf("Check found %d records, %v; want 1", n, err)
	}
	if r, err := s.Get(t.Context(), "k"); string(r.Value) != "w" || err != nil {
		t.Errorf("Get = %q, %v; want what was written", r.Value, err)
	}
	spoil()
	if err := s.Delete(t.Context(), "k"); err != nil {
		t.Errorf("Delete: %v", err)
	}
	if n, err := s.Sweep(t.Context(), time.Now().Add(4*time.Hour)); n != 0 || err != nil {
		t.Errorf("Sweep removed %d records, %v; want none", n, err)
	}
	if n, err := s.Check(t.Context()); n != 0 || err != nil {
		t.Errorf("Check found %d records, %v; want none", n, err)
	}
}

// TestAnyDamageIsAnErrorAndNoPanic damages files at random, always the same way
// for the same Go version.
func TestAnyDamageIsAnErrorAndNoPanic(t *testing.T) {
	const n = 400
	whole, err := os.ReadFile(filled(t, n))
	if err != nil {
		t.Fatal(err)
	}
	rounds := 100
	if testing.Short() {
		rounds = 30
	}
	rng := rand.New(rand.NewPCG(1, 2))
	refused, met := 0, 0
	path := filepath.Join(t.TempDir(), "state.db")
	for range rounds {
		if err := os.WriteFile(path, damage(rng, whole), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(path, WithLockTimeout(0))
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrSchema) {
				t.Errorf("Open: %v", err)
			}
			refused++
			continue
		}
		if useAll(t, s, n) > 0 {
			met++
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	t.Logf("%d damaged files: %d refused, %d with damage met later", rounds, refused, met)
	if refused < rounds/4 {
		t.Errorf("only %d of %d damaged files were refused", refused, rounds)
	}
}

// damage returns a damaged copy of a file.
func damage(rng *rand.Rand, whole []byte) []byte {
	const page = 4096
	b := append([]byte(nil), whole...)
	at := rng.IntN(len(b)/page) * page
	switch rng.IntN(5) {
	case 0: // cut off
		return b[:rng.IntN(len(b))]
	case 1: // a lost page
		clear(b[at : at+page])
	case 2: // a page of something else
		for i := range page {
			b[at+i] = byte(rng.Uint32())
		}
	case 3: // a page in the wrong place
		from := rng.IntN(len(b)/page) * page
		copy(b[at:at+page], b[from:from+page])
	case 4: // a few bytes
		for range 1 + rng.IntN(8) {
			b[at+rng.IntN(64)] = byte(rng.Uint32())
		}
	}
	return b
}
