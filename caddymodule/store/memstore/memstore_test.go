package memstore

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return New(0) })
}

func put(t *testing.T, s *Store, key string, life time.Duration) {
	t.Helper()
	r := store.Record{Value: []byte("v")}
	if life != 0 {
		r.Expires = time.Now().Add(life)
	}
	if err := s.Put(t.Context(), key, r); err != nil {
		t.Fatalf("Put(%q): %v", key, err)
	}
}

func TestAFullStoreRefusesNewRecordsOnly(t *testing.T) {
	s := New(3)
	for i := range 3 {
		put(t, s, fmt.Sprint(i), 0)
	}
	v := store.Record{Value: []byte("v")}
	if err := s.Put(t.Context(), "new", v); !errors.Is(err, ErrFull) {
		t.Errorf("Put of a new record: %v, want ErrFull", err)
	}
	err := s.Update(t.Context(), "new", func(store.Record) (store.Record, error) { return v, nil })
	if !errors.Is(err, ErrFull) {
		t.Errorf("Update to a new record: %v, want ErrFull", err)
	}
	if _, err := s.Get(t.Context(), "new"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get of the refused record: %v, want ErrNotFound", err)
	}
	put(t, s, "1", time.Hour)
	if err := s.Delete(t.Context(), "1"); err != nil {
		t.Errorf("Delete: %v", err)
	}
	put(t, s, "new", 0)
}

func TestAFullStoreMakesRoomOfExpiredRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(3)
		put(t, s, "forever", 0)
		put(t, s, "minute", time.Minute)
		put(t, s, "hour", time.Hour)
		// An expired record at the same key needs no room of its own.
		time.Sleep(time.Minute)
		put(t, s, "minute", 2*time.Minute)
		time.Sleep(2*time.Minute - time.Millisecond)
		v := store.Record{Value: []byte("v")}
		if err := s.Put(t.Context(), "new", v); !errors.Is(err, ErrFull) {
			t.Fatalf("Put before anything expired: %v, want ErrFull", err)
		}
		time.Sleep(time.Millisecond)
		put(t, s, "new", 0)
		if n := s.cache.ItemCount(); n != 3 {
			t.Errorf("the store holds %d records, want 3", n)
		}
		if err := s.Put(t.Context(), "another", v); !errors.Is(err, ErrFull) {
			t.Errorf("Put with nothing left to expire soon: %v, want ErrFull", err)
		}
	})
}

func TestARecordIsAbsentInTheMomentOfItsExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(0)
		put(t, s, "k", time.Second)
		time.Sleep(time.Second - time.Millisecond)
		if _, err := s.Get(t.Context(), "k"); err != nil {
			t.Errorf("Get a millisecond before the expiry: %v", err)
		}
		time.Sleep(time.Millisecond)
		if _, err := s.Get(t.Context(), "k"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Get at the expiry: %v, want ErrNotFound", err)
		}
		for key := range s.Keys(t.Context(), "") {
			t.Errorf("Keys yields %q at its expiry", key)
		}
		if n, err := s.Sweep(t.Context(), time.Now()); n != 1 || err != nil {
			t.Errorf("Sweep at the expiry removed %d records, %v; want 1", n, err)
		}
	})
}

func BenchmarkGet(b *testing.B) {
	s := New(0)
	r := store.Record{Value: make([]byte, 300), Expires: time.Now().Add(time.Hour)}
	if err := s.Put(b.Context(), "k", r); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Get(b.Context(), "k"); err != nil {
			b.Fatal(err)
		}
	}
}
