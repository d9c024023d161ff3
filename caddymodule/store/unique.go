package store

import (
	"hash/maphash"
	"iter"
)

// UniqueKeys yields each of the keys once. It needs some 20 bytes of memory for
// each of them.
func UniqueKeys(keys iter.Seq2[string, error]) iter.Seq2[string, error] {
	return unique(keys, func(key string) string { return key })
}

// UniqueEntries is UniqueKeys for a list.
func UniqueEntries(entries iter.Seq2[Entry, error]) iter.Seq2[Entry, error] {
	return unique(entries, func(e Entry) string { return e.Key })
}

func unique[T any](seq iter.Seq2[T, error], keyOf func(T) string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		seed, seen := maphash.MakeSeed(), map[uint64]struct{}{}
		for v, err := range seq {
			if err == nil {
				hash := maphash.String(seed, keyOf(v))
				if _, again := seen[hash]; again {
					continue
				}
				seen[hash] = struct{}{}
			}
			if !yield(v, err) {
				return
			}
		}
	}
}
