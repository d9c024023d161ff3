// Package feed keeps what a node remembers up to date with what other nodes
// write into the store, so that requests need not ask it.
package feed

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// Feed keeps something up to date with what other nodes write below a prefix.
type Feed struct {
	Store  store.Store
	Prefix string
	What   string // for the log
	Log    *zap.Logger

	// Load reads everything. It runs when the watch begins and every minute,
	// since a node that is cut off from the others may still have a connection
	// that works.
	Load func(ctx context.Context) error

	// Changed reads what has been written, or deleted, at one key.
	Changed func(ctx context.Context, key string) error
}

const (
	loadInterval = time.Minute
	retry        = time.Second
)

// Follow runs until ctx is done or the store is closed. After a lost connection
// it reads everything again.
func (f Feed) Follow(ctx context.Context) {
	for ctx.Err() == nil {
		began := time.Now()
		err := f.once(ctx)
		if ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
			return
		}
		if err != nil {
			f.Log.Warn("lost sight of "+f.What+" of other nodes; trying again", zap.Error(err))
		} else if time.Since(began) >= retry {
			continue // a watch that worked for a while has ended; start the next at once
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

// once follows one watch to its end.
func (f Feed) once(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The watch comes first, so that nothing falls between it and the reading.
	keys, err := f.Store.Watch(ctx, f.Prefix)
	if err != nil {
		return err
	}
	if err := f.Load(ctx); err != nil {
		return err
	}
	again := time.NewTicker(loadInterval)
	defer again.Stop()
	for {
		select {
		case key, ok := <-keys:
			if !ok {
				return nil
			}
			if err := f.Changed(ctx, key); err != nil {
				return err
			}
		case <-again.C:
			if err := f.Load(ctx); err != nil {
				return err
			}
		}
	}
}
