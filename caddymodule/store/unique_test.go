package store_test

import (
	"errors"
	"iter"
	"slices"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

func TestEachKeyComesOnce(t *testing.T) {
	fault := errors.New("fault")
	var keys iter.Seq2[string, error] = func(yield func(string, error) bool) {
		for _, key := range []string{"a", "b", "a", "", "b", ""} {
			if !yield(key, nil) {
				return
			}
		}
		yield("", fault)
	}
	var got []string
	var last error
	for key, err := range store.UniqueKeys(keys) {
		if last = err; err == nil {
			got = append(got, key)
		}
	}
	if !slices.Equal(got, []string{"a", "b", ""}) || !errors.Is(last, fault) {
		t.Errorf("got %q and %v", got, last)
	}
	for key := range store.UniqueKeys(keys) {
		if key != "a" {
			t.Errorf("it goes on with %q after the loop has ended", key)
		}
		break
	}
	entries := 0
	for range store.UniqueEntries(func(yield func(store.Entry, error) bool) {
		for range 2 {
			yield(store.Entry{Key: "a"}, nil)
		}
	}) {
		entries++
	}
	if entries != 1 {
		t.Errorf("%d entries", entries)
	}
}
