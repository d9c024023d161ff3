package filestore

import (
	"bytes"
	"context"
	"time"
)

// sweepPage is how many records Sweep removes in one transaction, which bounds
// how long other changes wait behind it.
const sweepPage = 1000

// Sweep implements store.Sweeper. It reads no more than what it removes.
func (s *Store) Sweep(ctx context.Context, now time.Time) (int, error) {
	total := 0
	for {
		if err := ctx.Err(); err != nil {
			return total, err
		}
		removed, more := 0, false
		err := s.submit(ctx, func(t *tables, _ time.Time) (outcome, error) {
			var read int
			removed, read = t.sweep(now, sweepPage)
			more = read == sweepPage
			return outcome{changed: read > 0}, nil
		})
		if err != nil {
			return total, err
		}
		total += removed
		if !more {
			return total, nil
		}
	}
}

// sweep works off at most limit entries of the expiry index that have passed at
// the moment now. It returns how many records it removed and how many entries
// it read. An entry that no record agrees with is merely dropped.
func (t *tables) sweep(now time.Time, limit int) (removed, read int) {
	// A cursor does not survive deletions, so they come afterwards. The keys
	// may point into pages that a deletion changes, so they are copied.
	var passed [][]byte
	c := t.expiry.Cursor()
	for k, _ := c.First(); k != nil && len(passed) < limit; k, _ = c.Next() {
		expires, _, err := parseIndexKey(k)
		if err == nil && !expires.passed(now) {
			break
		}
		passed = append(passed, bytes.Clone(k))
	}
	for _, k := range passed {
		expires, key, err := parseIndexKey(k)
		if err == nil {
			if at, ok := t.stampAt(key); ok && at == expires && t.err == nil {
				t.err = t.records.Delete(key)
				removed++
			}
		}
		if t.err == nil {
			t.err = t.expiry.Delete(k)
		}
	}
	return removed, len(passed)
}
