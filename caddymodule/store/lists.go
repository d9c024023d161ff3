package store

import "iter"

// KeysOf yields the keys of entries, for stores whose Keys goes through them.
func KeysOf(entries iter.Seq2[Entry, error]) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for e, err := range entries {
			if !yield(e.Key, err) {
				return
			}
		}
	}
}

// InFolder yields the entries of a folder, or the error of one that no store
// accepts, for the List of stores.
func InFolder(folder string, entries iter.Seq2[Entry, error]) iter.Seq2[Entry, error] {
	if err := CheckFolder(folder); err != nil {
		return func(yield func(Entry, error) bool) { yield(Entry{}, err) }
	}
	return entries
}
