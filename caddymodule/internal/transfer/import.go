package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// Options of an import.
type Options struct {
	// Overwrite lets the records of the file take the place of those in a store
	// that is not empty. Other records stay.
	Overwrite bool

	// Checker says which records are good.
	Checker Checker
}

// ErrNotEmpty says that there is something in the store that was to be filled.
var ErrNotEmpty = errors.New("the store is not empty. Empty it first, or let the records of the file replace those " +
	"of the same name with --overwrite; all others stay")

// Import writes the records of a file into a store. It reads the file twice:
// nothing is written before all of it has been found good. When a write fails,
// the error tells how many records may have been written; to import the same file
// once more with Overwrite completes it.
func Import(ctx context.Context, s store.Store, r io.ReadSeeker, o Options) (Summary, error) {
	if !o.Overwrite {
		if err := wantEmpty(ctx, s); err != nil {
			return Summary{}, err
		}
	}
	start, err := r.Seek(0, io.SeekCurrent)
	if err != nil {
		return Summary{}, fmt.Errorf("an import reads the file twice, so it needs a file and no pipe: %w", err)
	}
	now := time.Now()
	sum, err := o.Checker.file(r, now)
	if err != nil {
		return Summary{}, err
	}
	if _, err := r.Seek(start, io.SeekStart); err != nil {
		return Summary{}, err
	}
	w := batch{store: s, records: make(map[string]store.Record)}
	err = scan(r, func(_ int, l line) error {
		if l.record().ExpiredAt(now.Add(expiryMargin)) {
			return nil
		}
		return w.add(ctx, l.Key, l.record())
	})
	if err == nil {
		err = w.flush(ctx)
	}
	if err != nil {
		return Summary{}, fmt.Errorf("some of the %d records have been written; import the file once more with --overwrite "+
			"when the trouble is over: %w", sum.Records, err)
	}
	return sum, nil
}

// expiryMargin leaves out what would expire while it is written.
const expiryMargin = time.Minute

func wantEmpty(ctx context.Context, s store.Store) error {
	for _, err := range s.Keys(ctx, "") {
		if err != nil {
			return fmt.Errorf("looking into the store: %w", err)
		}
		return ErrNotEmpty
	}
	return nil
}

// file checks a file and every record in it. That the file is not the one that
// was exported is told before what is wrong with its records.
func (c Checker) file(r io.Reader, now time.Time) (Summary, error) {
	var sum Summary
	var first error
	bad := 0
	seen := issuers{}
	err := scan(r, func(n int, l line) error {
		if l.record().ExpiredAt(now.Add(expiryMargin)) {
			sum.Expired++
			return nil
		}
		if err := c.record(l.Key, l.Value); err != nil {
			if bad++; bad == 1 {
				first = fmt.Errorf("line %d: %s: %w", n, l.Key, err)
			}
			return nil
		}
		issuer, k, _ := split(l.Key)
		seen.note(issuer, k)
		sum.count(k, l.Value)
		return nil
	})
	switch {
	case err != nil:
		return sum, err
	case bad > 1:
		return sum, fmt.Errorf("%d records cannot be used, the first in %w", bad, first)
	case bad == 1:
		return sum, first
	}
	return sum, errors.Join(seen.problems()...)
}

// batchSize is how many records are written at once. Stores that sync a disk do
// it once for writes that come together.
const batchSize = 256

// batch collects records and writes them together.
type batch struct {
	store   store.Store
	records map[string]store.Record
}

func (b *batch) add(ctx context.Context, key string, r store.Record) error {
	b.records[key] = r // of a key that is there twice, the later line counts
	if len(b.records) < batchSize {
		return nil
	}
	return b.flush(ctx)
}

func (b *batch) flush(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, key := range slices.Sorted(maps.Keys(b.records)) {
		r := b.records[key]
		wg.Go(func() {
			if err := b.store.Put(ctx, key, r); err != nil {
				cancel(fmt.Errorf("writing the record %s: %w", key, err))
			}
		})
	}
	wg.Wait()
	clear(b.records)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
