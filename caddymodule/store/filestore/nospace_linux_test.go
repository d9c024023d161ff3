package filestore

import (
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

func TestAFullDiskFailsWritesUntilThereIsRoomAgain(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("mounting a small file system: %v (this test needs root)", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	checkNoSpace(t, filepath.Join(dir, "state.db"), syscall.ENOSPC, func() {
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	})
}

func TestALimitOfTheFileSizeFailsWritesUntilItIsLifted(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ)
	t.Cleanup(func() { signal.Reset(syscall.SIGXFSZ) })
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	lift := func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(lift)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1 << 20, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	checkNoSpace(t, filepath.Join(t.TempDir(), "state.db"), syscall.EFBIG, lift)
}

// checkNoSpace writes until there is no room, makes room and goes on, always
// with the same open store.
func checkNoSpace(t *testing.T, path string, want error, makeRoom func()) {
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}()
	const n = 600
	v := strings.Repeat("v", 8<<10)
	acknowledged, failed := 0, 0
	for i := range n {
		err := s.Put(t.Context(), recordKey(i), record(v))
		if err != nil {
			// bbolt keeps only the text of some errors.
			if !errors.Is(err, want) && !strings.Contains(err.Error(), want.Error()) {
				t.Fatalf("Put: %v, want %v", err, want)
			}
			if failed++; failed == 20 {
				break
			}
			continue
		}
		if failed > 0 {
			// A failed write may leave room for a smaller one, but not for this.
			t.Errorf("record %d was written to a full disk", i)
		}
		acknowledged++
	}
	if failed == 0 || acknowledged == 0 {
		t.Fatalf("%d writes went well and %d failed, want some of both", acknowledged, failed)
	}
	wantFirst(t, s, acknowledged, v)
	makeRoom()
	for i := range 20 {
		put(t, s, recordKey(acknowledged+i), v)
	}
	wantFirst(t, s, acknowledged+20, v)
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	if s, err = Open(path); err != nil {
		t.Fatal(err)
	}
	wantFirst(t, s, acknowledged+20, v)
}

// wantFirst checks that the store is sound and holds exactly the first records.
func wantFirst(t *testing.T, s *Store, n int, v string) {
	t.Helper()
	for i := range n {
		if r, err := s.Get(t.Context(), recordKey(i)); string(r.Value) != v || err != nil {
			t.Fatalf("Get(%q) = %d bytes, %v", recordKey(i), len(r.Value), err)
		}
	}
	if _, err := s.Get(t.Context(), recordKey(n)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get of a record that was not written: %v, want ErrNotFound", err)
	}
	if got, err := s.Check(t.Context()); got != n || err != nil {
		t.Errorf("Check found %d records, %v; want %d", got, err, n)
	}
}
