package storetest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

var recordRules = []rule{
	{"an absent record is ErrNotFound", func(t *testing.T, s store.Store) {
		wantAbsent(t, s, "absent")
	}},
	{"a record is kept with its expiry", func(t *testing.T, s store.Store) {
		r := lasting("v")
		put(t, s, "k", r)
		wantRecord(t, s, "k", r)
		put(t, s, "forever", value("w"))
		wantRecord(t, s, "forever", value("w"))
	}},
	{"a put replaces value and expiry", func(t *testing.T, s store.Store) {
		put(t, s, "k", lasting("first"))
		put(t, s, "k", value("second"))
		wantRecord(t, s, "k", value("second"))
		r := lasting("")
		put(t, s, "k", r)
		wantRecord(t, s, "k", r)
	}},
	{"an empty value is a record", func(t *testing.T, s store.Store) {
		put(t, s, "k", store.Record{Value: []byte{}})
		wantRecord(t, s, "k", store.Record{Value: []byte{}})
		wantKeys(t, s, "", "k")
	}},
	{"a value is any bytes, up to the bound", func(t *testing.T, s store.Store) {
		every := make([]byte, store.MaxValueLength)
		for i := range every {
			every[i] = byte(i)
		}
		put(t, s, "k", store.Record{Value: every})
		wantRecord(t, s, "k", store.Record{Value: every})
	}},
	{"a key is any printable ASCII, up to the bound", func(t *testing.T, s store.Store) {
		var printable strings.Builder
		for c := byte('!'); c <= '~'; c++ {
			printable.WriteByte(c)
		}
		keys := []string{"a", "A", "a/b:c{d}*?[e]\\", printable.String(), strings.Repeat("k", store.MaxKeyLength)}
		for _, key := range keys {
			put(t, s, key, value(key))
		}
		for _, key := range keys {
			wantRecord(t, s, key, value(key))
		}
		slices.Sort(keys)
		wantKeys(t, s, "", keys...)
	}},
	{"a deleted record is absent", func(t *testing.T, s store.Store) {
		put(t, s, "k", lasting("v"))
		put(t, s, "k2", value("v2"))
		remove(t, s, "k")
		wantAbsent(t, s, "k")
		wantKeys(t, s, "", "k2")
		put(t, s, "k", value("again"))
		wantRecord(t, s, "k", value("again"))
	}},
	{"deleting an absent record is no error", func(t *testing.T, s store.Store) {
		remove(t, s, "absent")
		wantAbsent(t, s, "absent")
	}},
	{"a record shares no memory with the store", checkAliasing},
}

func checkAliasing(t *testing.T, s store.Store) {
	spoil := func(b []byte) {
		for i := range b {
			b[i] = 'x'
		}
	}
	want := value("right")

	given := bytes.Clone(want.Value)
	put(t, s, "k", store.Record{Value: given})
	spoil(given)
	wantRecord(t, s, "k", want)

	got, err := s.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	spoil(got.Value)
	_ = append(got.Value, "and more"...)
	wantRecord(t, s, "k", want)

	errRefused := errors.New("refused")
	err = s.Update(t.Context(), "k", func(r store.Record) (store.Record, error) {
		spoil(r.Value)
		return r, errRefused
	})
	if err != errRefused {
		t.Fatalf("Update: %v", err)
	}
	wantRecord(t, s, "k", want)

	var seen, returned []byte
	err = s.Update(t.Context(), "k", func(r store.Record) (store.Record, error) {
		seen, returned = r.Value, bytes.Clone(want.Value)
		return store.Record{Value: returned}, nil
	})
	if err != nil {
		t.Fatalf("Update: %v", err)
	}
	spoil(seen)
	spoil(returned)
	wantRecord(t, s, "k", want)
}

var refusalRules = []rule{
	{"a bad key is an error in every method", func(t *testing.T, s store.Store) {
		put(t, s, "good", value("v"))
		for what, key := range map[string]string{
			"empty":        "",
			"too long":     strings.Repeat("k", store.MaxKeyLength+1),
			"space":        "a b",
			"control byte": "a\nb",
			"zero byte":    "a\x00",
			"DEL":          "a\x7f",
			"not ASCII":    "schlüssel",
		} {
			for _, m := range methods {
				if !m.keyed {
					continue
				}
				err := m.call(t.Context(), s, key)
				if err == nil || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrClosed) {
					t.Errorf("%s with a key that is %s returned %v, want a refusal", m.name, what, err)
				}
			}
		}
		wantKeys(t, s, "", "good")
	}},
	{"a bad record is an error and nothing is written", func(t *testing.T, s store.Store) {
		put(t, s, "old", value("old"))
		for what, r := range map[string]store.Record{
			"too long":          {Value: make([]byte, store.MaxValueLength+1)},
			"expired":           {Value: []byte("v"), Expires: time.Now().Add(-time.Second)},
			"expired since now": {Value: []byte("v"), Expires: time.Now()},
		} {
			for _, key := range []string{"old", "new"} {
				if err := s.Put(t.Context(), key, r); err == nil {
					t.Errorf("Put took a record that is %s", what)
				}
				err := s.Update(t.Context(), key, func(store.Record) (store.Record, error) { return r, nil })
				if err == nil {
					t.Errorf("Update took a record that is %s", what)
				}
			}
		}
		for _, key := range []string{"old", "new"} {
			if err := s.Put(t.Context(), key, store.Record{}); err == nil {
				t.Error("Put took a record without a value")
			}
		}
		wantRecord(t, s, "old", value("old"))
		wantAbsent(t, s, "new")
	}},
	{"a context that has ended is its error and nothing is written", func(t *testing.T, s store.Store) {
		put(t, s, "old", lasting("old"))
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
		defer cancel()
		for _, m := range methods {
			for _, key := range []string{"old", "new"} {
				if err := m.call(canceled, s, key); !errors.Is(err, context.Canceled) {
					t.Errorf("%s returned %v, want context.Canceled", m.name, err)
				}
				if err := m.call(late, s, key); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s returned %v, want context.DeadlineExceeded", m.name, err)
				}
			}
		}
		r, err := s.Get(t.Context(), "old")
		if err != nil || string(r.Value) != "old" {
			t.Errorf("Get = %q, %v; want the old value", r.Value, err)
		}
		wantAbsent(t, s, "new")
	}},
}
