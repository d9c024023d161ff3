package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// ErrInjected is the error of a call that a Faulty made fail.
var ErrInjected = errors.New("injected store fault")

// Moment is when in its course a call fails.
type Moment int

const (
	// Before makes a call fail at once; the store is not touched.
	Before Moment = iota

	// During makes an Update fail after its function has run and before
	// anything is written, as a full disk does. For other methods it is the
	// same as Before.
	During

	// After makes a call fail when the store has done it, as a connection does
	// that breaks before the answer. For Get and Watch it is the same as
	// Before, as there is nothing to be left behind; Keys and List yield all
	// there is and then the error.
	After
)

// String returns the name of the moment.
func (m Moment) String() string {
	switch m {
	case Before:
		return "before"
	case During:
		return "during"
	default:
		return "after"
	}
}

// Method names one method of a store.
type Method string

// The methods that a Faulty counts and can make fail.
const (
	Get    Method = "Get"
	Put    Method = "Put"
	Update Method = "Update"
	Delete Method = "Delete"
	Keys   Method = "Keys"
	List   Method = "List"
	Watch  Method = "Watch"
	Sweep  Method = "Sweep"
)

// Call is one call that a Faulty has counted. For Keys, List and Watch the key is the
// prefix or folder; for Sweep it is empty.
type Call struct {
	Method Method
	Key    string
}

// Faulty is a store that passes all calls on to another one, counts them, and
// makes the chosen ones fail:
//
//	f := storetest.NewFaulty(memstore.New(0))
//	f.FailCall(2, storetest.After)                       // the second call from now
//	f.FailMethods(storetest.Before, storetest.Update)    // every Update, until Heal
//
// To go through all calls of a piece of work, see FailEachCall. What a test
// does to the inner store itself is neither counted nor failed. All methods are
// safe for concurrent use.
type Faulty struct {
	inner store.Store

	mu       sync.Mutex
	calls    []Call
	left     int // calls until the one that FailCall chose; zero for none
	once     Moment
	failing  map[Method]Moment
	injected int
	repeat   bool
}

var (
	_ store.Store   = (*Faulty)(nil)
	_ store.Sweeper = (*Faulty)(nil)
)

// NewFaulty returns a Faulty around inner that does not fail yet.
func NewFaulty(inner store.Store) *Faulty {
	return &Faulty{inner: inner, failing: make(map[Method]Moment)}
}

// FailCall makes the n-th call from now fail, where 1 is the next one. Only one
// call is chosen at a time; zero takes the choice back.
func (f *Faulty) FailCall(n int, when Moment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left, f.once = n, when
}

// FailMethods makes every call to these methods fail until Heal. Without any
// method it does so for all of them.
func (f *Faulty) FailMethods(when Moment, methods ...Method) {
	if len(methods) == 0 {
		methods = []Method{Get, Put, Update, Delete, Keys, List, Watch, Sweep}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range methods {
		f.failing[m] = when
	}
}

// RepeatUpdates makes Update run its function twice and discard the first
// result, which every user of a store must put up with.
func (f *Faulty) RepeatUpdates() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.repeat = true
}

// Heal ends all faults.
func (f *Faulty) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left, f.repeat = 0, false
	clear(f.failing)
}

// Calls returns the calls so far, failed ones included, in order.
func (f *Faulty) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Injected returns how many calls failed on purpose.
func (f *Faulty) Injected() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.injected
}

// Inner returns the store that works, to prepare it and to see what is left.
func (f *Faulty) Inner() store.Store { return f.inner }

// healthy is the Moment of a call that does not fail.
const healthy Moment = -1

// count notes a call and returns when it fails.
func (f *Faulty) count(m Method, key string) Moment {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, Call{m, key})
	when, fails := f.failing[m]
	if f.left > 0 {
		if f.left--; f.left == 0 {
			when, fails = f.once, true
		}
	}
	if !fails {
		return healthy
	}
	f.injected++
	return when
}

// write passes a call on that fails before or after it.
func (f *Faulty) write(m Method, key string, call func() error) error {
	when := f.count(m, key)
	if when == Before || when == During {
		return ErrInjected
	}
	if err := call(); err != nil || when == healthy {
		return err
	}
	return ErrInjected
}

// Get implements store.Store.
func (f *Faulty) Get(ctx context.Context, key string) (store.Record, error) {
	if f.count(Get, key) != healthy {
		return store.Record{}, ErrInjected
	}
	return f.inner.Get(ctx, key)
}

// Put implements store.Store.
func (f *Faulty) Put(ctx context.Context, key string, r store.Record) error {
	return f.write(Put, key, func() error { return f.inner.Put(ctx, key, r) })
}

// Delete implements store.Store.
func (f *Faulty) Delete(ctx context.Context, key string) error {
	return f.write(Delete, key, func() error { return f.inner.Delete(ctx, key) })
}

// Update implements store.Store.
func (f *Faulty) Update(ctx context.Context, key string, fn func(store.Record) (store.Record, error)) error {
	when := f.count(Update, key)
	if when == Before {
		return ErrInjected
	}
	f.mu.Lock()
	repeat := f.repeat
	f.mu.Unlock()
	err := f.inner.Update(ctx, key, func(old store.Record) (store.Record, error) {
		if repeat {
			_, _ = fn(store.Record{Value: slices.Clone(old.Value), Expires: old.Expires})
		}
		r, err := fn(old)
		if err == nil && when == During {
			err = ErrInjected
		}
		return r, err
	})
	if err == nil && when == After {
		err = ErrInjected
	}
	return err
}

// Keys implements store.Store. It counts as one call when the loop begins.
func (f *Faulty) Keys(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return sequence(f, Keys, prefix, f.inner.Keys(ctx, prefix))
}

// List implements store.Store. It counts as one call when the loop begins.
func (f *Faulty) List(ctx context.Context, folder string) iter.Seq2[store.Entry, error] {
	return sequence(f, List, folder, f.inner.List(ctx, folder))
}

// sequence passes a sequence on that fails before its first step or after its
// last one.
func sequence[T any](f *Faulty, m Method, key string, inner iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		when := f.count(m, key)
		if when == healthy || when == After {
			for item, err := range inner {
				if !yield(item, err) || err != nil {
					return
				}
			}
		}
		if when != healthy {
			var none T
			yield(none, ErrInjected)
		}
	}
}

// Watch implements store.Store.
func (f *Faulty) Watch(ctx context.Context, prefix string) (<-chan string, error) {
	if f.count(Watch, prefix) != healthy {
		return nil, ErrInjected
	}
	return f.inner.Watch(ctx, prefix)
}

// Sweep implements store.Sweeper. It removes nothing when the inner store has
// no such method.
func (f *Faulty) Sweep(ctx context.Context, now time.Time) (n int, err error) {
	sweeper, ok := f.inner.(store.Sweeper)
	if !ok {
		return 0, nil
	}
	err = f.write(Sweep, "", func() (err error) {
		n, err = sweeper.Sweep(ctx, now)
		return err
	})
	return n, err
}

// Shared implements store.Shared.
func (f *Faulty) Shared() bool { return store.IsShared(f.inner) }

// Close closes the inner store. It is not counted and does not fail.
func (f *Faulty) Close() error { return f.inner.Close() }

// FailEachCall runs a scenario once without faults, and then, in a subtest
// each, with the first of its calls failing in every Moment that makes a
// difference, with the second, and so on. Each run gets a store of its own from
// open. The scenario
//
//   - prepares the store through f.Inner(), which is not counted,
//   - does its work through f,
//   - checks the outcome. When f.Injected() is zero the work must have
//     succeeded. Otherwise it must have told of the failure or coped with it,
//     and what f.Inner() holds must be sound; after a fault with After the
//     write is there although it was reported as failed.
//
// It must make its calls in the same order each time, up to the one that fails.
func FailEachCall(t *testing.T, open func(t *testing.T) store.Store, scenario func(t *testing.T, f *Faulty)) {
	t.Helper()
	run := func(t *testing.T, n int, when Moment) []Call {
		f := NewFaulty(open(t))
		t.Cleanup(func() { closeStore(t, f) })
		f.FailCall(n, when)
		scenario(t, f)
		if n > 0 && f.Injected() == 0 {
			t.Errorf("the scenario made only %d calls this time", len(f.Calls()))
		}
		return f.Calls()
	}
	var calls []Call
	if !t.Run("no fault", func(t *testing.T) { calls = run(t, 0, Before) }) {
		return // what fails without a fault says nothing about faults
	}
	for i, c := range calls {
		for _, when := range c.Method.moments() {
			t.Run(fmt.Sprintf("call %d (%s) fails %s", i+1, c.Method, when), func(t *testing.T) {
				run(t, i+1, when)
			})
		}
	}
}

// moments returns the moments that differ for this method.
func (m Method) moments() []Moment {
	switch m {
	case Update:
		return []Moment{Before, During, After}
	case Put, Delete, Keys, List, Sweep:
		return []Moment{Before, After}
	default:
		return []Moment{Before}
	}
}
