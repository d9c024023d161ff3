package filestore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

func record(v string) store.Record {
	return store.Record{Value: []byte(v), Expires: time.Now().Add(time.Hour)}
}

func put(t testing.TB, s *Store, key, v string) {
	t.Helper()
	if err := s.Put(t.Context(), key, record(v)); err != nil {
		t.Fatalf("Put(%q): %v", key, err)
	}
}

// filled returns the path of a closed store with n records.
func filled(t testing.TB, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	s := openAt(t, path)
	fill(t, s, n)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// fill writes the records that recordKey names.
func fill(t testing.TB, s *Store, n int) {
	t.Helper()
	var wg sync.WaitGroup
	const writers = 64
	for g := range writers {
		wg.Go(func() {
			for i := g; i < n; i += writers {
				if err := s.Put(t.Context(), recordKey(i), record(strings.Repeat("v", 200))); err != nil {
					t.Errorf("Put: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func recordKey(i int) string { return fmt.Sprintf("record/%06d", i) }

// wantRefused checks that Open fails with want, in one line that names the file.
func wantRefused(t *testing.T, path string, want error, sentence string) {
	t.Helper()
	s, err := Open(path, WithLockTimeout(0))
	if err == nil {
		_ = s.Close()
		t.Fatal("Open took the file")
	}
	if !errors.Is(err, want) || !strings.Contains(err.Error(), sentence) {
		t.Errorf("Open returned %q, want a %q that says %q", err, want, sentence)
	}
	if !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%q is not one line that names the file", err)
	}
}

func TestOpenCreatesAFileForItsOwnerOnly(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	root := t.TempDir()
	dir := filepath.Join(root, "a", "b")
	path := filepath.Join(dir, "state.db")
	put(t, openAt(t, path), "k", "v")
	for name, want := range map[string]os.FileMode{
		path: 0o600, dir: 0o700 | os.ModeDir, filepath.Dir(dir): 0o700 | os.ModeDir,
	} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has the mode %v, want %v", name, info.Mode(), want)
		}
	}
}

func TestOpenLeavesNothingButTheStoreBehind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	// As a crash in the middle of creation leaves it.
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), leftoverPrefix(path)+"123"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(filepath.Dir(path), ".other.db.new-123")
	if err := os.WriteFile(foreign, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	openAt(t, path)
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 || entries[0].Name() != filepath.Base(foreign) || entries[1].Name() != "state.db" {
		t.Errorf("the folder holds %v, want the store and what is not its own", entries)
	}
}

func TestOpenRefusesAFileInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := openAt(t, path)
	wantRefused(t, path, ErrLocked, "another process has it open")
	put(t, s, "k", "v")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	openAt(t, path)
}

func TestOpenWaitsForAFileToBeReleased(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	first := openAt(t, path)
	opened := make(chan error)
	go func() {
		second, err := Open(path, WithLockTimeout(time.Minute))
		if err == nil {
			err = second.Close()
		}
		opened <- err
	}()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Errorf("Open: %v", err)
	}
}

func TestManyFirstStartsAtOnceMakeOneStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s, err := Open(path, WithLockTimeout(time.Minute))
			if err != nil {
				t.Errorf("Open: %v", err)
				return
			}
			if err := s.Put(t.Context(), recordKey(i), record("v")); err != nil {
				t.Errorf("Put: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	wg.Wait()
	s := openAt(t, path)
	if n, err := s.Check(t.Context()); n != 8 || err != nil {
		t.Errorf("the store holds %d records, %v; want 8", n, err)
	}
}

func TestAFileThatVanishesBeforeItIsOpenedIsNotMadeAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	if _, err := open(path, options{lockTimeout: 1}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want ErrNotExist", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a file now: %v", err)
	}
}

func TestOpenRefusesAnEmptyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, path, ErrDamaged, "it is empty (0 bytes); restore it from a backup, or delete it to start")
	if info, err := os.Stat(path); err != nil || info.Size() != 0 {
		t.Errorf("Open has changed the file: %v, %v", info, err)
	}
}

func TestOpenRefusesATruncatedFile(t *testing.T) {
	whole, err := os.ReadFile(filled(t, 1000))
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 100, 4096, 8192, minSize, minSize + 1, len(whole) / 4, len(whole) / 2} {
		path := filepath.Join(t.TempDir(), "state.db")
		if err := os.WriteFile(path, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		wantRefused(t, path, ErrDamaged, "restore it from a backup")
	}
}

func TestOpenRefusesFilesOfOthers(t *testing.T) {
	tests := []struct {
		name     string
		prepare  func(t *testing.T, path string) error
		want     error
		sentence string
	}{
		{"text", func(t *testing.T, path string) error {
			return os.WriteFile(path, []byte(strings.Repeat("not a database\n", 5000)), 0o600)
		}, ErrDamaged, "it has no valid header"},
		{"zeros", func(t *testing.T, path string) error {
			return os.WriteFile(path, make([]byte, 1<<16), 0o600)
		}, ErrDamaged, "it has no valid header"},
		{"a folder", func(t *testing.T, path string) error {
			return os.Mkdir(path, 0o700)
		}, nil, "is a directory"},
		{"a bbolt database of another program", func(t *testing.T, path string) error {
			return edit(path, func(tx *bbolt.Tx) error {
				_, err := tx.CreateBucket([]byte("theirs"))
				return err
			})
		}, ErrSchema, "of another program"},
		{"a store of a newer version", func(t *testing.T, path string) error {
			openAt(t, path).Close()
			return edit(path, func(tx *bbolt.Tx) error {
				return tx.Bucket(metaBucket).Put(schemaKey, []byte("2"))
			})
		}, ErrSchema, "written by a newer version of this program (schema 2, known up to 1)"},
		{"a store of a version that makes no sense", func(t *testing.T, path string) error {
			openAt(t, path).Close()
			return edit(path, func(tx *bbolt.Tx) error {
				return tx.Bucket(metaBucket).Put(schemaKey, []byte("x"))
			})
		}, ErrSchema, "not a number"},
		{"a store without its records", func(t *testing.T, path string) error {
			openAt(t, path).Close()
			return edit(path, func(tx *bbolt.Tx) error { return tx.DeleteBucket(recordsBucket) })
		}, ErrDamaged, "a bucket is missing"},
		{"a store with a record cut short", func(t *testing.T, path string) error {
			openAt(t, path).Close()
			return edit(path, func(tx *bbolt.Tx) error {
				return tx.Bucket(recordsBucket).Put([]byte("k"), []byte("short"))
			})
		}, ErrDamaged, "a record has only 5 bytes"},
		{"a store with a record missing in the expiry index", func(t *testing.T, path string) error {
			openAt(t, path).Close()
			return edit(path, func(tx *bbolt.Tx) error {
				return tx.Bucket(recordsBucket).Put([]byte("k"), encode(record("v")))
			})
		}, ErrDamaged, "missing in the expiry index"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			if err := test.prepare(t, path); err != nil {
				t.Fatal(err)
			}
			if test.want == nil {
				_, err := Open(path)
				if err == nil || !strings.Contains(err.Error(), test.sentence) {
					t.Errorf("Open returned %v, want %q", err, test.sentence)
				}
				return
			}
			wantRefused(t, path, test.want, test.sentence)
			wantLockFree(t, path)
		})
	}
}

// edit changes a file behind the store's back.
func edit(path string, fn func(*bbolt.Tx) error) error {
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		return err
	}
	return errors.Join(db.Update(fn), db.Close())
}

// wantLockFree checks that a restored file can be opened where a damaged one
// was found. It is the same file to the kernel, and so to its locks.
func wantLockFree(t *testing.T, path string) {
	t.Helper()
	good, err := os.ReadFile(filled(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, WithLockTimeout(0))
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "k", "v")
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}
