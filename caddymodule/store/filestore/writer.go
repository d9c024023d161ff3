package filestore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// maxBatch bounds the changes of one transaction, and so the time that the
// first of them waits for the others.
const maxBatch = 1024

// change is one pending change and, later, its result.
type change struct {
	apply func(*tables, time.Time) (outcome, error)

	// claimed is set by whoever comes first: the writer, to run apply, or the
	// caller, to leave. So apply never runs for a caller that has gone.
	claimed atomic.Bool

	ran  chan struct{} // closed when apply, once claimed by the writer, has returned
	done chan struct{} // closed when the result below is final
	outcome
	err error
}

// outcome is what a change did within its transaction.
type outcome struct {
	changed bool   // the transaction must be committed
	key     string // to be reported to watchers; empty for none
}

// submit hands a change to the writer and waits until it is on disk.
func (s *Store) submit(ctx context.Context, apply func(*tables, time.Time) (outcome, error)) error {
	c := &change{apply: apply, ran: make(chan struct{}), done: make(chan struct{})}
	if err := s.usable(); err != nil {
		return err
	}
	select {
	case s.changes <- c:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closing:
		return store.ErrClosed
	case <-s.abandoned:
		return errAbandoned
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return c.leave(ctx.Err())
	case <-s.abandoned:
		return c.leave(errAbandoned)
	}
}

// leave stops waiting for a change. What apply captured is the caller's again,
// so one that has begun is waited for; it takes no time worth mention, unlike
// the sync that follows.
func (c *change) leave(err error) error {
	if !c.claimed.CompareAndSwap(false, true) {
		<-c.ran
	}
	return err
}

// write is the goroutine that makes all changes. It ends with closing.
func (s *Store) write() {
	ended := false
	defer func() {
		if ended {
			close(s.stopped)
			return
		}
		// An update function has called runtime.Goexit, as t.FailNow does.
		// This goroutine cannot be saved, but the store can.
		go s.write()
	}()
	for {
		select {
		case <-s.closing:
			ended = true
			return
		case c := <-s.changes:
			s.commit(s.gather(c))
		}
	}
}

// gather returns first and the changes that wait behind it.
func (s *Store) gather(first *change) []*change {
	batch := []*change{first}
	// The callers that were answered a moment ago are about to come back with
	// their next change. They get the processor once, but nothing is awaited.
	runtime.Gosched()
	for len(batch) < maxBatch {
		select {
		case c := <-s.changes:
			batch = append(batch, c)
		default:
			return batch
		}
	}
	return batch
}

var errInterrupted = errors.New("another change in the same transaction ended its goroutine")

// commit makes the changes of a batch and answers all of them. Even one that
// only found out that it has nothing to write is answered at the end, since
// what it saw may have been written by this very batch.
func (s *Store) commit(batch []*change) {
	err := errInterrupted
	defer func() {
		for _, c := range batch {
			switch {
			case err != nil:
				c.err = err
			case c.key != "":
				s.hub.Publish(c.key)
			}
			close(c.done)
		}
	}()
	err = s.transact(batch)
}

// errUnchanged rolls a transaction back that has nothing to write.
var errUnchanged = errors.New("nothing to write")

// transact runs a batch in one transaction, which is on disk when it returns.
func (s *Store) transact(batch []*change) error {
	if s.spoilt != nil {
		return s.spoilt
	}
	err := guarded(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			t, err := tablesOf(tx)
			if err != nil {
				return err
			}
			return applyAll(t, batch)
		})
	})
	switch {
	case err == nil, errors.Is(err, errUnchanged):
		return nil
	case errors.Is(err, ErrDamaged):
		s.spoilt = err
		return err
	default:
		return fmt.Errorf("writing the store file: %w", err)
	}
}

// applyAll runs the changes one after the other: each sees what those before it
// have done. A change that fails has written nothing.
func applyAll(t *tables, batch []*change) error {
	now := time.Now()
	changed := false
	for _, c := range batch {
		c.run(t, now)
		if t.err != nil {
			return t.err
		}
		changed = changed || c.changed
	}
	if !changed {
		return errUnchanged
	}
	return nil
}

// run applies one change, unless its caller has gone.
func (c *change) run(t *tables, now time.Time) {
	if !c.claimed.CompareAndSwap(false, true) {
		return
	}
	defer close(c.ran)
	c.outcome, c.err = c.apply(t, now)
}

// call is a call of an update function on behalf of another goroutine.
type call struct {
	panicked bool
	value    any    // what it panicked with; nil for runtime.Goexit
	stack    []byte // where
}

// errPanicked stands for a panic until finish raises it again.
var errPanicked = errors.New("the update function panicked")

// run calls fn and holds a panic back.
func (c *call) run(fn func(store.Record) (store.Record, error), old store.Record) (r store.Record, err error) {
	c.panicked = true
	defer func() {
		if c.panicked {
			c.value, c.stack = recover(), debug.Stack()
			r, err = store.Record{}, errPanicked
		}
	}()
	r, err = fn(old)
	c.panicked = false
	return r, err
}

// finish goes on with a panic where it belongs, in the caller's goroutine.
func (c *call) finish() {
	switch {
	case !c.panicked:
	case c.value == nil:
		runtime.Goexit()
	default:
		panic(Panic{Value: c.value, Stack: c.stack})
	}
}

// Panic is what Update panics with when the update function has panicked: the
// function ran on another goroutine, whose stack would be lost otherwise.
type Panic struct {
	Value any    // what the function panicked with
	Stack []byte // the stack of the goroutine at that moment
}

// Error implements error, and so decides how the runtime prints the panic.
func (p Panic) Error() string {
	return fmt.Sprintf("update function panicked: %v\n\n%s", p.Value, p.Stack)
}

// Unwrap returns the value of the panic when that is an error.
func (p Panic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}
