package filestore

import (
	"context"
	"fmt"

	"go.etcd.io/bbolt"
)

// checkAtOpen is how many records Open reads. It finds damage to a small store
// before anything relies on it, and keeps the start of a large one fast.
const checkAtOpen = 2_000

// Check reads the whole file and returns the number of records, expired ones
// included. It returns an ErrDamaged when a record cannot be read or when the
// expiry index does not agree with the records. It is made for a command, or
// for after a mishap: in a large store it can hold up writes for a second.
func (s *Store) Check(ctx context.Context) (int, error) {
	var records int
	err := s.view(func(tx *bbolt.Tx) error {
		t, err := tablesOf(tx)
		if err != nil {
			return err
		}
		var expiring int
		records, expiring, err = t.checkRecords(ctx, -1)
		if err != nil {
			return err
		}
		return t.checkIndex(ctx, expiring)
	})
	return records, err
}

// checkRecords reads the first limit records, or all when limit is negative. It
// returns how many those are and how many of them expire one day.
func (t *tables) checkRecords(ctx context.Context, limit int) (records, expiring int, err error) {
	c := t.records.Cursor()
	for k, v := c.First(); k != nil && records != limit; k, v = c.Next() {
		if err := ctx.Err(); err != nil {
			return records, expiring, err
		}
		records++
		expires, _, err := decode(v)
		if err != nil {
			return records, expiring, err
		}
		if expires == 0 {
			continue
		}
		expiring++
		if t.expiry.Get(indexKey(expires, k)) == nil {
			return records, expiring, fmt.Errorf("%w: a record is missing in the expiry index", ErrDamaged)
		}
	}
	return records, expiring, nil
}

// checkIndex reads the expiry index, which is known to hold an entry for each
// of the expiring records, and looks for further ones.
func (t *tables) checkIndex(ctx context.Context, expiring int) error {
	entries := 0
	c := t.expiry.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, _, err := parseIndexKey(k); err != nil {
			return err
		}
		entries++
	}
	if entries != expiring {
		return fmt.Errorf("%w: the expiry index has %d entries for %d records", ErrDamaged, entries, expiring)
	}
	return nil
}
