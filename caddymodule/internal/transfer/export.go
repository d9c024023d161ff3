package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// Export writes all records of a store. After an error what it has written is not
// complete, and Import refuses it. Records that vanish meanwhile are left out.
func Export(ctx context.Context, s store.Store, w io.Writer) (Summary, error) {
	var sum Summary
	out, err := newWriter(w, time.Now())
	if err != nil {
		return sum, err
	}
	for key, err := range s.Keys(ctx, "") {
		if err != nil {
			return sum, fmt.Errorf("listing the records: %w", err)
		}
		r, err := s.Get(ctx, key)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return sum, fmt.Errorf("reading the record %s: %w", key, err)
		}
		if err := out.add(key, r); err != nil {
			return sum, err
		}
		_, k, _ := split(key)
		sum.count(k, r.Value)
	}
	return sum, out.end()
}

// Inspect reads a file to its end and tells what is in it. It returns an error
// when the file is not complete.
func Inspect(r io.Reader) (Summary, error) {
	var sum Summary
	err := scan(r, func(_ int, l line) error {
		_, k, _ := split(l.Key)
		sum.count(k, l.Value)
		return nil
	})
	return sum, err
}
