package filestore

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// ErrDamaged is returned for a file, or a part of one, that cannot be what this
// package wrote.
var ErrDamaged = errors.New("the store file is damaged")

// guarded runs fn and turns a panic into an ErrDamaged. bbolt reads the file as
// memory and panics when it meets nonsense; where a page lies beyond the end of
// the file the kernel raises a signal, which Go would die of unless told
// otherwise for this goroutine.
func guarded(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %s", ErrDamaged, describe(p))
		}
	}()
	return fn()
}

// describe says in one line what a panic was about.
func describe(p any) string {
	if f, ok := p.(interface {
		runtime.Error
		Addr() uintptr
	}); ok && f.Addr() != 0 {
		return "it points to data beyond its end"
	}
	line, _, _ := strings.Cut(fmt.Sprint(p), "\n")
	return line
}

// view runs fn in a read transaction.
func (s *Store) view(fn func(*bbolt.Tx) error) error {
	if err := s.usable(); err != nil {
		return err
	}
	began := false
	err := guarded(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			began = true
			return fn(tx)
		})
	})
	if !began && errors.Is(err, ErrDamaged) {
		s.abandon()
	}
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return store.ErrClosed
	}
	return err
}

// abandon gives the file up for good. It is for the case that bbolt panicked
// where it holds locks which nobody can release any more: from then on every
// call would hang, so none is made.
func (s *Store) abandon() {
	s.abandonOnce.Do(func() { close(s.abandoned) })
}

var errAbandoned = fmt.Errorf("%w: it was changed by somebody else while in use", ErrDamaged)

func (s *Store) isAbandoned() bool {
	select {
	case <-s.abandoned:
		return true
	default:
		return false
	}
}

// usable returns the error of a store that is closed or abandoned.
func (s *Store) usable() error {
	select {
	case <-s.closing:
		return store.ErrClosed
	default:
	}
	if s.isAbandoned() {
		return errAbandoned
	}
	return nil
}
