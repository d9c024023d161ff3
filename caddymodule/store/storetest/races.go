package storetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// racers is how many goroutines meet at one record.
const racers = 100

// race runs fn on many goroutines at once and waits for all of them.
func race(n int, fn func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			fn(i)
		})
	}
	close(start)
	wg.Wait()
}

func increment(ctx context.Context, s store.Store, key string) error {
	return s.Update(ctx, key, func(r store.Record) (store.Record, error) {
		n := 0
		if r.Exists() {
			var err error
			if n, err = strconv.Atoi(string(r.Value)); err != nil {
				return store.Record{}, err
			}
		}
		return value(strconv.Itoa(n + 1)), nil
	})
}

var raceRules = []rule{
	{"no increment of one record is lost", func(t *testing.T, s store.Store) {
		race(racers, func(int) {
			if err := increment(t.Context(), s, "n"); err != nil {
				t.Errorf("Update: %v", err)
			}
		})
		wantRecord(t, s, "n", value(strconv.Itoa(racers)))
	}},
	{"one of many creates, and the others see it", func(t *testing.T, s store.Store) {
		errExists := errors.New("exists")
		var winners atomic.Int32
		var winner atomic.Value
		race(racers, func(i int) {
			mine := strconv.Itoa(i)
			err := s.Update(t.Context(), "once", func(r store.Record) (store.Record, error) {
				if r.Exists() {
					return store.Record{}, errExists
				}
				return value(mine), nil
			})
			switch err {
			case nil:
				winners.Add(1)
				winner.Store(mine)
			case errExists:
			default:
				t.Errorf("Update: %v", err)
			}
		})
		if n := winners.Load(); n != 1 {
			t.Fatalf("%d goroutines have created the record, want 1", n)
		}
		wantRecord(t, s, "once", value(winner.Load().(string)))
	}},
	{"one of many redeems, and nobody after it", func(t *testing.T, s store.Store) {
		errGone := errors.New("gone")
		put(t, s, "code", lasting("v"))
		var winners atomic.Int32
		race(racers, func(int) {
			err := s.Update(t.Context(), "code", func(r store.Record) (store.Record, error) {
				if !r.Exists() {
					return store.Record{}, errGone
				}
				return store.Record{}, nil
			})
			switch err {
			case nil:
				winners.Add(1)
			case errGone:
			default:
				t.Errorf("Update: %v", err)
			}
		})
		if n := winners.Load(); n != 1 {
			t.Fatalf("%d goroutines have redeemed the record, want 1", n)
		}
	}},
	{"a failure or a panic does not spoil its neighbours", func(t *testing.T, s store.Store) {
		errOdd := errors.New("odd")
		race(racers, func(i int) {
			defer func() {
				if p := recover(); (p != nil) != (i%3 == 2) {
					t.Errorf("update %d ended with the panic %v", i, p)
				}
			}()
			key := fmt.Sprintf("k/%d", i)
			err := s.Update(t.Context(), key, func(store.Record) (store.Record, error) {
				switch i % 3 {
				case 1:
					return value("wrong"), errOdd
				case 2:
					panic("on purpose")
				}
				return value(key), nil
			})
			if (err == errOdd) != (i%3 == 1) || (err != nil && err != errOdd) {
				t.Errorf("update %d returned %v", i, err)
			}
		})
		for i := range racers {
			if key := fmt.Sprintf("k/%d", i); i%3 == 0 {
				wantRecord(t, s, key, value(key))
			} else {
				wantAbsent(t, s, key)
			}
		}
	}},
	{"a reader never sees an older state than before", checkMonotonicReads},
}

func checkMonotonicReads(t *testing.T, s store.Store) {
	put(t, s, "n", value("0"))
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			last := 0
			for {
				r, err := s.Get(t.Context(), "n")
				if err != nil {
					t.Errorf("Get: %v", err)
					return
				}
				n, err := strconv.Atoi(string(r.Value))
				if err != nil || n < last {
					t.Errorf("read %q after %d", r.Value, last)
					return
				}
				last = n
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	race(4, func(int) {
		for range 25 {
			if err := increment(t.Context(), s, "n"); err != nil {
				t.Errorf("Update: %v", err)
			}
		}
	})
	close(done)
	readers.Wait()
	wantRecord(t, s, "n", value("100"))
}
