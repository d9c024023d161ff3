package metrics

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// Operations of a store.
const (
	opGet = iota
	opPut
	opUpdate
	opDelete
	opKeys
	opList
	opWatch
	opSweep
)

var operationNames = [...]string{
	opGet: "get", opPut: "put", opUpdate: "update", opDelete: "delete", opKeys: "keys", opList: "list", opWatch: "watch", opSweep: "sweep",
}

type storageMetrics struct {
	duration *prometheus.HistogramVec
	errors   *prometheus.CounterVec
}

func newStorageMetrics(m *Metrics) storageMetrics {
	return storageMetrics{
		m.histograms("storage_operation_duration_seconds", "How long an operation of the store took, with those that failed.", []float64{
			25e-6, 100e-6, 250e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 1, 2.5, 10,
		}, "backend", "operation"),
		m.counters("storage_errors_total", "Operations that the store could not do.", "backend", "operation"),
	}
}

// measuredStore is a store whose operations are counted.
type measuredStore struct {
	inner store.Store
	ops   [len(operationNames)]operation
}

// operation has the metrics of one operation of one backend.
type operation struct {
	duration prometheus.Observer
	errors   prometheus.Counter
}

// Store returns a store that does what s does and counts it. It is a
// store.Sweeper if s is one.
func (m *Metrics) Store(s store.Store, backend string) store.Store {
	if m == nil {
		return s
	}
	out := &measuredStore{inner: s}
	for i, name := range operationNames {
		out.ops[i] = operation{m.storage.duration.WithLabelValues(backend, name), m.storage.errors.WithLabelValues(backend, name)}
	}
	if sweeper, ok := s.(store.Sweeper); ok {
		return measuredSweeper{out, sweeper}
	}
	return out
}

// done counts an operation that began at a time. What the caller has broken off
// is no fault of the store.
func (o operation) done(ctx context.Context, begin time.Time, err error) {
	o.duration.Observe(time.Since(begin).Seconds())
	if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(ctx.Err(), context.Canceled) {
		o.errors.Inc()
	}
}

// Get implements store.Store.
func (s *measuredStore) Get(ctx context.Context, key string) (store.Record, error) {
	begin := time.Now()
	r, err := s.inner.Get(ctx, key)
	s.ops[opGet].done(ctx, begin, err)
	return r, err
}

// Put implements store.Store.
func (s *measuredStore) Put(ctx context.Context, key string, r store.Record) error {
	begin := time.Now()
	err := s.inner.Put(ctx, key, r)
	s.ops[opPut].done(ctx, begin, err)
	return err
}

// Update implements store.Store. An error of fn is a decision of the caller, and
// not a fault of the store.
func (s *measuredStore) Update(ctx context.Context, key string, fn func(store.Record) (store.Record, error)) error {
	begin := time.Now()
	var decision error
	err := s.inner.Update(ctx, key, func(r store.Record) (out store.Record, err error) {
		out, err = fn(r)
		decision = err
		return out, err
	})
	fault := err
	if decision != nil && errors.Is(err, decision) {
		fault = nil
	}
	s.ops[opUpdate].done(ctx, begin, fault)
	return err
}

// Delete implements store.Store.
func (s *measuredStore) Delete(ctx context.Context, key string) error {
	begin := time.Now()
	err := s.inner.Delete(ctx, key)
	s.ops[opDelete].done(ctx, begin, err)
	return err
}

// Keys implements store.Store.
func (s *measuredStore) Keys(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return measuredSeq(ctx, s.ops[opKeys], s.inner.Keys(ctx, prefix))
}

// List implements store.Store.
func (s *measuredStore) List(ctx context.Context, folder string) iter.Seq2[store.Entry, error] {
	return measuredSeq(ctx, s.ops[opList], s.inner.List(ctx, folder))
}

// measuredSeq measures a sequence as a whole, without the time of the loop over
// it.
func measuredSeq[T any](ctx context.Context, op operation, seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		begin := time.Now()
		var fault error
		for v, err := range seq {
			if err != nil {
				fault = err
			}
			left := time.Now()
			more := yield(v, err)
			begin = begin.Add(time.Since(left))
			if !more {
				break
			}
		}
		op.done(ctx, begin, fault)
	}
}

// Watch implements store.Store. What is measured is how long it takes to begin.
func (s *measuredStore) Watch(ctx context.Context, prefix string) (<-chan string, error) {
	begin := time.Now()
	ch, err := s.inner.Watch(ctx, prefix)
	s.ops[opWatch].done(ctx, begin, err)
	return ch, err
}

// Close implements store.Store.
func (s *measuredStore) Close() error { return s.inner.Close() }

// Shared implements store.Shared.
func (s *measuredStore) Shared() bool { return store.IsShared(s.inner) }

// measuredSweeper is a measuredStore that can be swept.
type measuredSweeper struct {
	*measuredStore
	sweeper store.Sweeper
}

// Sweep implements store.Sweeper.
func (s measuredSweeper) Sweep(ctx context.Context, now time.Time) (int, error) {
	begin := time.Now()
	n, err := s.sweeper.Sweep(ctx, now)
	s.ops[opSweep].done(ctx, begin, err)
	return n, err
}

// Interface guards
var (
	_ store.Store   = (*measuredStore)(nil)
	_ store.Sweeper = measuredSweeper{}
)
