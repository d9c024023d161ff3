package storetest

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

var updateRules = []rule{
	{"an update of an absent record sees the zero record and creates", func(t *testing.T, s store.Store) {
		r := lasting("new")
		err := s.Update(t.Context(), "k", func(old store.Record) (store.Record, error) {
			if old.Exists() || !old.Expires.IsZero() {
				t.Errorf("the update sees %q, expiring %v", old.Value, old.Expires)
			}
			return r, nil
		})
		if err != nil {
			t.Fatalf("Update: %v", err)
		}
		wantRecord(t, s, "k", r)
	}},
	{"an update sees the current record and replaces it", func(t *testing.T, s store.Store) {
		first, second := lasting("first"), value("second")
		put(t, s, "k", first)
		put(t, s, "other", value("other"))
		err := s.Update(t.Context(), "k", func(old store.Record) (store.Record, error) {
			wantSameInside(t, old, first)
			return second, nil
		})
		if err != nil {
			t.Fatalf("Update: %v", err)
		}
		wantRecord(t, s, "k", second)
		wantRecord(t, s, "other", value("other"))
	}},
	{"an update sees an empty value as a record", func(t *testing.T, s store.Store) {
		put(t, s, "k", store.Record{Value: []byte{}})
		err := s.Update(t.Context(), "k", func(old store.Record) (store.Record, error) {
			if !old.Exists() {
				t.Error("the update sees no record")
			}
			return store.Record{Value: []byte{}}, nil
		})
		if err != nil {
			t.Fatalf("Update: %v", err)
		}
		wantRecord(t, s, "k", store.Record{Value: []byte{}})
	}},
	{"an update to a nil value deletes", func(t *testing.T, s store.Store) {
		put(t, s, "k", lasting("v"))
		for range 2 { // the second time it is absent already
			err := s.Update(t.Context(), "k", func(store.Record) (store.Record, error) {
				return store.Record{}, nil
			})
			if err != nil {
				t.Fatalf("Update: %v", err)
			}
			wantAbsent(t, s, "k")
			wantKeys(t, s, "")
		}
	}},
	{"an update that fails returns that very error and writes nothing", func(t *testing.T, s store.Store) {
		r := lasting("v")
		put(t, s, "present", r)
		errFn := errors.New("no")
		for _, wrong := range []store.Record{value("wrong"), {}} {
			for _, key := range []string{"present", "absent"} {
				err := s.Update(t.Context(), key, func(store.Record) (store.Record, error) { return wrong, errFn })
				if err != errFn {
					t.Errorf("Update returned %v, want the function's own error, not wrapped", err)
				}
			}
		}
		wantRecord(t, s, "present", r)
		wantAbsent(t, s, "absent")
	}},
	{"an update that panics reaches its caller and writes nothing", checkPanic},
	{"an update that ends its goroutine writes nothing and blocks nobody", checkGoexit},
}

// wantSameInside is wantSame for use in an update function, which may run on
// another goroutine, where a test must not be ended.
func wantSameInside(t *testing.T, got, want store.Record) {
	t.Helper()
	if string(got.Value) != string(want.Value) || want.Expires.Sub(got.Expires).Abs() > 1e6 {
		t.Errorf("the update sees %q until %v, want %q until %v", got.Value, got.Expires, want.Value, want.Expires)
	}
}

func checkPanic(t *testing.T, s store.Store) {
	put(t, s, "k", value("v"))
	errCause := errors.New("the cause")
	func() {
		defer func() {
			switch p := recover().(type) {
			case nil:
				t.Error("the panic did not reach the caller")
			case error:
				if !errors.Is(p, errCause) {
					t.Errorf("the caller got another panic: %v", p)
				}
			default:
				if !strings.Contains(fmt.Sprint(p), errCause.Error()) {
					t.Errorf("the caller got another panic: %v", p)
				}
			}
		}()
		err := s.Update(t.Context(), "k", func(store.Record) (store.Record, error) { panic(errCause) })
		t.Errorf("Update returned %v", err)
	}()
	wantRecord(t, s, "k", value("v"))
	put(t, s, "k", value("w"))
	wantRecord(t, s, "k", value("w"))
}

func checkGoexit(t *testing.T, s store.Store) {
	put(t, s, "k", value("v"))
	ended := make(chan bool)
	go func() {
		returned := false
		defer func() { ended <- !returned }()
		_ = s.Update(t.Context(), "k", func(store.Record) (store.Record, error) {
			runtime.Goexit()
			return value("wrong"), nil
		})
		returned = true
	}()
	if !<-ended {
		t.Error("the caller's goroutine went on")
	}
	wantRecord(t, s, "k", value("v"))
	put(t, s, "k", value("w"))
	wantRecord(t, s, "k", value("w"))
}
