// Package store is the contract between the authorization server and the place
// where its state lives. Implementations are in memstore, filestore and
// redisstore; each of them passes the suite in storetest.
package store

import (
	"context"
	"errors"
	"iter"
	"strings"
	"time"
)

// ErrNotFound is returned by Get for a key that is absent or has expired.
var ErrNotFound = errors.New("no such record")

// ErrClosed is returned by every method of a store that has been closed.
var ErrClosed = errors.New("store is closed")

// MaxKeyLength bounds the length of a key in bytes. Keys are made of printable
// ASCII; a longer key, an empty one or one with other bytes is an error.
const MaxKeyLength = 512

// MaxValueLength bounds the length of a value in bytes.
const MaxValueLength = 64 << 10

// Record is one stored value. A Record never shares memory with the store: the
// caller may keep and change what it gave and what it got.
type Record struct {
	// Value is opaque to the store. A nil Value means "no record"; a stored
	// record always has a non-nil Value, which may be empty.
	Value []byte

	// Expires is the moment from which the record counts as absent. The zero
	// time means never. A store may keep it with a precision of one
	// millisecond.
	Expires time.Time
}

// Exists reports whether the record holds a value.
func (r Record) Exists() bool { return r.Value != nil }

// ExpiredAt reports whether the record counts as absent at the moment now.
func (r Record) ExpiredAt(now time.Time) bool {
	return !r.Expires.IsZero() && !now.Before(r.Expires)
}

// Entry is what a list tells of a record.
type Entry struct {
	Key     string
	Expires time.Time // as in the record
}

// Store keeps records under string keys. All methods are safe for concurrent
// use. An error that is not ErrNotFound means that the store could not do its
// work: the caller answers 503 and must not conclude anything about the record.
// In particular a write that failed, or whose context ended while it was under
// way, may have taken effect all the same; only a method that is called with a
// context that has already ended surely does nothing. When a method returns
// without an error, what it wrote is durable to the degree that the backend
// promises.
type Store interface {
	// Get returns the record at key, or ErrNotFound.
	Get(ctx context.Context, key string) (Record, error)

	// Put writes the record at key, whatever was there before. A nil Value is
	// an error, and so is an Expires that has passed.
	Put(ctx context.Context, key string, r Record) error

	// Update changes the record at key in one atomic step: fn gets the current
	// record (the zero Record when it is absent or expired) and returns the
	// one that takes its place; a nil Value deletes it. When fn returns an
	// error nothing is written and Update returns that very error; the same
	// holds for a record that Put would refuse. When fn panics nothing is
	// written and Update panics. fn may run more than once, on a goroutine
	// that is not the caller's, but never after Update has returned. So it is
	// quick, has no effects beyond its own variables, and does not call the
	// store.
	Update(ctx context.Context, key string, fn func(Record) (Record, error)) error

	// Delete removes the record at key. Deleting an absent record is no error.
	Delete(ctx context.Context, key string) error

	// Keys yields the keys that start with prefix, in no particular order and
	// without the expired ones; the empty prefix stands for all keys. Keys
	// written or deleted meanwhile may or may not appear, and a key may come
	// up again. The loop may call the store. An error ends the sequence. It
	// may read the whole store, so it is for operators and not for requests.
	Keys(ctx context.Context, prefix string) iter.Seq2[string, error]

	// List yields the records directly in a folder, which is empty or ends in
	// a slash: those whose key is the folder and a rest without a slash. The
	// rules of Keys hold, except that it reads no more than what it yields and
	// what has expired in the folder of late, however large the store is.
	List(ctx context.Context, folder string) iter.Seq2[Entry, error]

	// Watch returns a channel of the keys under prefix that any node writes or
	// deletes from now on. The channel is closed when ctx is done, when the
	// store is closed, or when a slow reader made the store drop a key: the
	// reader then calls Watch again and reads the state with Keys, so that
	// nothing is missed silently. A record that merely expires is not
	// reported.
	Watch(ctx context.Context, prefix string) (<-chan string, error)

	// Close releases the store. Calls under way finish or return ErrClosed.
	// Closing twice is no error.
	Close() error
}

// Sweeper is implemented by stores that do not remove expired records by
// themselves. The owner calls Sweep now and then.
type Sweeper interface {
	// Sweep removes the records that have expired at the moment now and
	// returns how many. It may take long, but holds up other calls only
	// briefly; after an error it has removed at least as many as it returns.
	Sweep(ctx context.Context, now time.Time) (int, error)
}

// Shared is implemented by stores that several processes may use at the same time.
type Shared interface {
	// Shared reports whether this one may have other users.
	Shared() bool
}

// IsShared reports whether other processes may use a store at the same time.
func IsShared(s Store) bool {
	shared, ok := s.(Shared)
	return ok && shared.Shared()
}

// CheckKey returns an error for a key that no store accepts.
func CheckKey(key string) error {
	if key == "" {
		return errors.New("empty key")
	}
	if len(key) > MaxKeyLength {
		return errors.New("key is too long")
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return errors.New("key has a byte that is not printable ASCII")
		}
	}
	return nil
}

// CheckFolder returns an error for what List takes for no folder.
func CheckFolder(folder string) error {
	if folder == "" {
		return nil
	}
	if !strings.HasSuffix(folder, "/") {
		return errors.New("a folder ends in a slash")
	}
	return CheckKey(folder)
}

// Folder returns the folder that a key lies in: what goes up to its last slash.
func Folder(key string) string { return key[:strings.LastIndexByte(key, '/')+1] }

// CheckRecord returns an error for a record that no store accepts in Put.
func CheckRecord(r Record, now time.Time) error {
	switch {
	case r.Value == nil:
		return errors.New("record without a value")
	case len(r.Value) > MaxValueLength:
		return errors.New("value is too long")
	case r.ExpiredAt(now):
		return errors.New("record has already expired")
	}
	return nil
}
