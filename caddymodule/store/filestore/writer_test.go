package filestore

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// gate is an update function that tells when it has begun and ends on demand.
type gate struct{ entered, open chan struct{} }

func newGate() gate { return gate{make(chan struct{}), make(chan struct{})} }

func (g gate) fn(r store.Record) (store.Record, error) {
	close(g.entered)
	<-g.open
	return store.Record{Value: append(r.Value, 'g')}, nil
}

// underway starts an Update and returns where its result will come.
func underway(ctx context.Context, s *Store, key string, fn func(store.Record) (store.Record, error)) <-chan error {
	result := make(chan error, 1)
	go func() { result <- s.Update(ctx, key, fn) }()
	return result
}

// inBubble runs a test with a store in a synctest bubble, in which Wait tells
// that every caller has come as far as it can.
func inBubble(t *testing.T, test func(t *testing.T, s *Store)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		test(t, s)
	})
}

// occupy keeps the writer busy until the returned function is called, so that
// the changes made meanwhile form one batch.
func occupy(t *testing.T, s *Store) (release func()) {
	t.Helper()
	g := newGate()
	result := underway(t.Context(), s, "occupied", g.fn)
	<-g.entered
	return func() {
		close(g.open)
		if err := <-result; err != nil {
			t.Errorf("the update that kept the writer busy: %v", err)
		}
	}
}

// commits returns how many transactions have changed the file.
func commits(t *testing.T, s *Store) int {
	t.Helper()
	n := 0
	err := s.db.View(func(tx *bbolt.Tx) error {
		n = tx.ID()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestChangesThatWaitTogetherShareOneTransaction(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store) {
		release := occupy(t, s)
		before := commits(t, s)
		var results []<-chan error
		for i := range 50 {
			results = append(results, underway(t.Context(), s, fmt.Sprint(i), func(store.Record) (store.Record, error) {
				return store.Record{Value: []byte("v")}, nil
			}))
		}
		synctest.Wait()
		release()
		for _, r := range results {
			if err := <-r; err != nil {
				t.Errorf("Update: %v", err)
			}
		}
		if n := commits(t, s) - before; n != 2 {
			t.Errorf("there were %d transactions, want one for the first update and one for all others", n)
		}
	})
}

func TestAChangeThatFailsDoesNotCommit(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "state.db"))
	before := commits(t, s)
	errFn := errors.New("no")
	err := s.Update(t.Context(), "k", func(store.Record) (store.Record, error) { return store.Record{}, errFn })
	if err != errFn {
		t.Errorf("Update: %v", err)
	}
	if err := s.Delete(t.Context(), "absent"); err != nil {
		t.Errorf("Delete: %v", err)
	}
	if n := commits(t, s) - before; n != 0 {
		t.Errorf("there were %d transactions for nothing", n)
	}
}

func TestACallerWhoLeavesTheQueueWritesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store) {
		release := occupy(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		leaving := underway(ctx, s, "leaving", func(store.Record) (store.Record, error) {
			t.Error("the function ran for a caller who has left")
			return store.Record{Value: []byte("v")}, nil
		})
		staying := underway(t.Context(), s, "staying", func(store.Record) (store.Record, error) {
			return store.Record{Value: []byte("v")}, nil
		})
		synctest.Wait()
		cancel()
		if err := <-leaving; !errors.Is(err, context.Canceled) {
			t.Errorf("the caller who left got %v, want context.Canceled", err)
		}
		release()
		if err := <-staying; err != nil {
			t.Errorf("the caller who stayed got %v", err)
		}
		if _, err := s.Get(t.Context(), "leaving"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Get: %v, want ErrNotFound", err)
		}
	})
}

func TestACallerWhoLeavesTheBatchBeforeItsTurnWritesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store) {
		release := occupy(t, s)
		g := newGate()
		first := underway(t.Context(), s, "first", g.fn)
		synctest.Wait() // the queue is in the order of arrival
		ctx, cancel := context.WithCancel(t.Context())
		leaving := underway(ctx, s, "leaving", func(store.Record) (store.Record, error) {
			t.Error("the function ran for a caller who has left")
			return store.Record{Value: []byte("v")}, nil
		})
		synctest.Wait()
		release()
		<-g.entered // both are in one batch now, and the first is having its turn
		cancel()
		if err := <-leaving; !errors.Is(err, context.Canceled) {
			t.Errorf("the caller who left got %v, want context.Canceled", err)
		}
		close(g.open)
		if err := <-first; err != nil {
			t.Errorf("the caller who stayed got %v", err)
		}
	})
}

func TestACallerWhoLeavesDuringTheCommitDoesNotBreakTheBatch(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store) {
		release := occupy(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		leaving := underway(ctx, s, "leaving", func(store.Record) (store.Record, error) {
			return store.Record{Value: []byte("v")}, nil
		})
		synctest.Wait()
		g := newGate()
		second := underway(t.Context(), s, "second", g.fn)
		synctest.Wait()
		release()
		<-g.entered // the first has had its turn, and its transaction is open
		cancel()
		if err := <-leaving; !errors.Is(err, context.Canceled) {
			t.Errorf("the caller who left got %v, want context.Canceled", err)
		}
		close(g.open)
		if err := <-second; err != nil {
			t.Errorf("the caller who stayed got %v", err)
		}
		// Too late to be taken back, as the contract allows.
		for _, key := range []string{"leaving", "second"} {
			if _, err := s.Get(t.Context(), key); err != nil {
				t.Errorf("Get(%q): %v", key, err)
			}
		}
	})
}

func TestTheFunctionHasEndedWhenUpdateReturns(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store) {
		ctx, cancel := context.WithCancel(t.Context())
		g := newGate()
		result := underway(ctx, s, "k", g.fn)
		<-g.entered
		cancel()
		synctest.Wait()
		select {
		case err := <-result:
			t.Errorf("Update returned %v while its function was running", err)
		default:
		}
		close(g.open)
		if err := <-result; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Update: %v", err)
		}
	})
}

func TestAFailedCommitReachesEveryCallerOfTheBatch(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store) {
		release := occupy(t, s)
		errFn := errors.New("exists")
		results := []<-chan error{
			underway(t.Context(), s, "once", func(store.Record) (store.Record, error) {
				return store.Record{Value: []byte("v")}, nil
			}),
		}
		synctest.Wait()
		// What it saw has not happened in the end, so its answer must not be that.
		results = append(results, underway(t.Context(), s, "once", func(r store.Record) (store.Record, error) {
			if !r.Exists() {
				t.Error("the second update does not see what the first has done")
			}
			return store.Record{}, errFn
		}))
		g := newGate()
		synctest.Wait()
		results = append(results, underway(t.Context(), s, "last", g.fn))
		synctest.Wait()
		release()
		<-g.entered
		if err := s.file.Close(); err != nil { // from here on nothing can be written
			t.Fatal(err)
		}
		close(g.open)
		for i, r := range results {
			err := <-r
			if err == nil || errors.Is(err, errFn) || !strings.Contains(err.Error(), "writing the store file") {
				t.Errorf("caller %d got %v, want the error of the commit", i, err)
			}
		}
		if _, err := s.Get(t.Context(), "once"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Get: %v, want ErrNotFound", err)
		}
		if r, err := s.Get(t.Context(), "occupied"); string(r.Value) != "g" || err != nil {
			t.Errorf("Get of what was there before = %q, %v", r.Value, err)
		}
	})
}

func TestAPanicShowsWhereItCameFrom(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "state.db"))
	defer func() {
		p, ok := recover().(Panic)
		if !ok || p.Value != "on purpose" || !strings.Contains(p.Error(), "TestAPanicShowsWhereItCameFrom") {
			t.Errorf("got the panic %v", p)
		}
	}()
	_ = s.Update(t.Context(), "k", func(store.Record) (store.Record, error) { panic("on purpose") })
	t.Error("Update returned")
}

func TestSweepWorksInBoundedTransactions(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "state.db"))
	const n = 2*sweepPage + 1
	fill(t, s, n)
	before := commits(t, s)
	removed, err := s.Sweep(t.Context(), time.Now().Add(2*time.Hour))
	if removed != n || err != nil {
		t.Errorf("Sweep removed %d records, %v; want %d", removed, err, n)
	}
	if got := commits(t, s) - before; got != 3 {
		t.Errorf("Sweep took %d transactions for %d records, want 3", got, n)
	}
	if left, err := s.Check(t.Context()); left != 0 || err != nil {
		t.Errorf("Check found %d records, %v; want none", left, err)
	}
}

func TestTheExpiryIndexStaysInStep(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "state.db"))
	now := time.Now()
	at := func(d time.Duration) store.Record {
		r := store.Record{Value: []byte("v")}
		if d != 0 {
			r.Expires = now.Add(d)
		}
		return r
	}
	lives := []time.Duration{0, time.Hour, time.Hour, 2 * time.Hour, 0, time.Hour, time.Hour + time.Microsecond}
	for i, d := range lives {
		if err := s.Put(t.Context(), "k", at(d)); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Check(t.Context()); n != 1 || err != nil {
			t.Fatalf("after write %d: Check found %d records, %v; want 1", i, n, err)
		}
	}
	for range 2 {
		if err := s.Delete(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Check(t.Context()); n != 0 || err != nil {
			t.Fatalf("after the deletion: Check found %d records, %v; want none", n, err)
		}
	}
}
