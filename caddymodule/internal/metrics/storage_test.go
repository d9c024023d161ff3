package metrics_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics/metricstest"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

func TestMeasuredStoreIsAStore(t *testing.T) {
	m := metrics.New()
	storetest.Run(t, func(*testing.T) store.Store { return m.Store(memstore.New(0), "memory") })
}

func TestMeasuredStoreSweepsIfItsStoreDoes(t *testing.T) {
	m := metrics.New()
	if _, ok := m.Store(memstore.New(0), "memory").(store.Sweeper); !ok {
		t.Error("a store that has to be swept cannot be swept any more")
	}
	inner := struct{ store.Store }{memstore.New(0)}
	if _, ok := m.Store(inner, "memory").(store.Sweeper); ok {
		t.Error("a store that sweeps by itself seems to need sweeping")
	}
}

func TestStorageOperations(t *testing.T) {
	m := metrics.New()
	faulty := storetest.NewFaulty(memstore.New(0))
	s := m.Store(faulty, "memory")
	ctx := t.Context()
	mine := errors.New("a decision")
	before := metricstest.Read(t, m)

	record := store.Record{Value: []byte("v")}
	must(t, s.Put(ctx, "a/b", record))
	if _, err := s.Get(ctx, "a/c"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	must(t, s.Update(ctx, "a/b", func(r store.Record) (store.Record, error) { return r, nil }))
	if err := s.Update(ctx, "a/b", func(r store.Record) (store.Record, error) { return r, mine }); !errors.Is(err, mine) {
		t.Error(err)
	}
	for range s.Keys(ctx, "") {
		break
	}
	for _, err := range s.List(ctx, "a/") {
		must(t, err)
	}
	must(t, s.Delete(ctx, "a/b"))
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Put(gone, "a/b", record); err == nil {
		t.Error("a write after the caller had gone")
	}
	faulty.FailMethods(storetest.Before)
	if _, err := s.Get(ctx, "a/b"); err == nil {
		t.Error("the store does not fail")
	}
	for range s.List(ctx, "a/") {
		continue
	}
	// What fn has decided does not matter when the store fails after it.
	faulty.Heal()
	faulty.FailMethods(storetest.After)
	err := s.Update(ctx, "a/b", func(store.Record) (store.Record, error) { return record, nil })
	if err == nil {
		t.Error("the store does not fail")
	}

	op := func(name string) string {
		return "storage_operation_duration_seconds backend=memory operation=" + name
	}
	failed := func(name string) string { return "storage_errors_total backend=memory operation=" + name }
	want := metricstest.Values{
		op("put"): 2, op("get"): 2, op("update"): 3, op("keys"): 1, op("list"): 2, op("delete"): 1,
		failed("get"): 1, failed("list"): 1, failed("update"): 1,
	}
	if diff := cmp.Diff(want, metricstest.Read(t, m).Since(before)); diff != "" {
		t.Errorf("unexpected counts (-want +got):\n%s", diff)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}
