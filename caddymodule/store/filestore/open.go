package filestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// DefaultLockTimeout is how long Open waits for another process to let go of
// the file. It covers a restart in which the old process is still finishing.
const DefaultLockTimeout = 5 * time.Second

// schema is the version of the layout that doc.go describes.
const schema = 1

var (
	metaBucket    = []byte("meta")
	recordsBucket = []byte("records")
	expiryBucket  = []byte("expiry")
	schemaKey     = []byte("schema")
)

// ErrLocked is returned by Open when the file is in use.
var ErrLocked = errors.New("the store file is locked")

// ErrSchema is returned by Open for a file whose layout this package does not
// know: a newer version wrote it, or another program.
var ErrSchema = errors.New("the layout of the store file is unknown")

// Option changes how Open works.
type Option func(*options)

type options struct {
	lockTimeout time.Duration
}

// WithLockTimeout makes Open wait for d instead of DefaultLockTimeout. With
// zero it tries once.
func WithLockTimeout(d time.Duration) Option {
	// To bbolt, zero means to wait for ever.
	return func(o *options) { o.lockTimeout = max(d, 1) }
}

// Open opens the store in the file at path. When there is no file, Open creates
// it with mode 0600, and the folders above it with mode 0700. An existing file
// is never taken for a new one: if it is empty, truncated or otherwise damaged
// the error is an ErrDamaged. It is an ErrLocked when another process has the
// file open, and an ErrSchema when a newer version has written it.
func Open(path string, opts ...Option) (*Store, error) {
	o := options{lockTimeout: DefaultLockTimeout}
	for _, opt := range opts {
		opt(&o)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, fmt.Errorf("creating the store file: %w", err)
		}
	}
	s, err := open(path, o)
	if err != nil {
		return nil, explain(path, err)
	}
	removeLeftovers(path)
	return s, nil
}

// create puts a complete, empty store at path, or leaves alone what another
// process puts there at the same time. The file is made under another name and
// linked when it is on disk, so that a crash at any moment leaves nothing at
// path or everything. Unlike a rename, a link does not replace a file.
func create(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, leftoverPrefix(path)+"*") // mode 0600
	if err != nil {
		return err
	}
	tmp := f.Name()
	defer os.Remove(tmp)
	if err := f.Close(); err != nil {
		return err
	}
	if err := initialize(tmp); err != nil {
		return err
	}
	if os.Link(tmp, path) != nil {
		// Another process may have been faster, and have taken our file for a
		// leftover. If not, the file system knows no links.
		if _, err := os.Lstat(path); err == nil {
			return nil
		}
		if err := os.Rename(tmp, path); err != nil {
			return err
		}
	}
	return syncDir(dir)
}

// initialize makes the empty file at path an empty store.
func initialize(path string) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 1})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{metaBucket, recordsBucket, expiryBucket} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return tx.Bucket(metaBucket).Put(schemaKey, strconv.AppendInt(nil, schema, 10))
	})
	return errors.Join(err, db.Close())
}

// syncDir makes the new name in a folder durable. Windows has no such call and
// needs none.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func leftoverPrefix(path string) string { return "." + filepath.Base(path) + ".new-" }

// removeLeftovers removes what a crash in create left behind. It does so under
// the lock of the store, when there is no use any more for what other processes
// may be making in create. A failure is of no consequence.
func removeLeftovers(path string) {
	dir := filepath.Dir(path)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasPrefix(e.Name(), leftoverPrefix(path)) {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// open opens and checks an existing file.
func open(path string, o options) (*Store, error) {
	var file *os.File
	var db *bbolt.DB
	err := guarded(func() (err error) {
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout:      o.lockTimeout,
			FreelistType: bbolt.FreelistMapType,
			NoStatistics: true, // nobody reads them, and they cost each read a lock
			OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
				f, err := openExisting(name, flag, perm)
				file = f
				return f, err
			},
		})
		return err
	})
	if err == nil {
		err = guarded(func() error { return verify(db, file) })
	}
	if err == nil {
		return newStore(db, file), nil
	}
	switch {
	case db != nil && !errors.Is(err, ErrDamaged):
		err = errors.Join(err, db.Close())
	case file != nil:
		// After a panic within bbolt its Close may wait for ever. What this
		// leaks is some address space.
		_ = letGo(file)
	}
	return nil, err
}

// minSize is the size of a new file on a machine with the smallest pages.
const minSize = 4 * 4096

// openExisting keeps bbolt from creating a file, and from making a database of
// an empty one.
func openExisting(name string, flag int, perm os.FileMode) (*os.File, error) {
	f, err := os.OpenFile(name, flag&^os.O_CREATE, perm)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = errors.New("it is not a regular file")
	case info.Size() == 0:
		err = fmt.Errorf("%w: it is empty (0 bytes)", ErrDamaged)
	case info.Size() < minSize:
		err = fmt.Errorf("%w: it is truncated to %d bytes", ErrDamaged, info.Size())
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// verify makes sure that db is complete and laid out as this package does it.
func verify(db *bbolt.DB, file *os.File) error {
	return db.View(func(tx *bbolt.Tx) error {
		info, err := file.Stat()
		if err != nil {
			return err
		}
		if info.Size() < tx.Size() {
			return fmt.Errorf("%w: it is truncated to %d of %d bytes", ErrDamaged, info.Size(), tx.Size())
		}
		if err := verifySchema(tx); err != nil {
			return err
		}
		t, err := tablesOf(tx)
		if err != nil {
			return err
		}
		_, _, err = t.checkRecords(context.Background(), checkAtOpen)
		return err
	})
}

func verifySchema(tx *bbolt.Tx) error {
	meta := tx.Bucket(metaBucket)
	if meta == nil {
		return fmt.Errorf("%w: it is a bbolt database of another program", ErrSchema)
	}
	v := meta.Get(schemaKey)
	version, err := strconv.Atoi(string(v[:min(len(v), 20)]))
	switch {
	case err != nil || version < 1:
		return fmt.Errorf("%w: its version is not a number", ErrSchema)
	case version > schema:
		return fmt.Errorf("%w: it was written by a newer version of this program (schema %d, known up to %d)",
			ErrSchema, version, schema)
	}
	return nil
}

// explain makes one sentence of an error that names the file and, where there
// is one, the way out.
func explain(path string, err error) error {
	for _, e := range []error{bolterrors.ErrInvalid, bolterrors.ErrChecksum, bolterrors.ErrVersionMismatch} {
		if errors.Is(err, e) {
			err = fmt.Errorf("%w: it has no valid header (%w)", ErrDamaged, e)
		}
	}
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("opening %s: %w: another process has it open, most likely a second Caddy with the same "+
			"data directory; stop that one or give this one a store file of its own", path, ErrLocked)
	case errors.Is(err, ErrDamaged):
		return fmt.Errorf("opening %s: %w; restore it from a backup, or delete it to start with an empty store",
			path, err)
	default:
		return fmt.Errorf("opening %s: %w", path, err)
	}
}
