package token

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// feed keeps something up to date with what other nodes write below a prefix.
type feed struct {
	store  store.Store
	prefix string
	what   string // for the log
	log    *zap.Logger

	// load reads everything. It runs when the watch begins and every
	// loadInterval, since a node that is cut off from the others may still
	// have a connection that works.
	load func(ctx context.Context) error

	// changed reads what has been written at one key.
	changed func(ctx context.Context, key string) error
}

const (
	loadInterval = time.Minute
	feedRetry    = time.Second
)

// follow runs until ctx is done or the store is closed. After a lost connection
// it reads everything again.
func (f feed) follow(ctx context.Context) {
	for ctx.Err() == nil {
		began := time.Now()
		err := f.once(ctx)
		if ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
			return
		}
		if err != nil {
			f.log.Warn("lost sight of "+f.what+" of other nodes; trying again", zap.Error(err))
		} else if time.Since(began) >= feedRetry {
			continue // a watch that worked for a while has ended; start the next at once
		}
		select {
		case <-ctx.Done():
		case <-time.After(feedRetry):
		}
	}
}

// once follows one watch to its end.
func (f feed) once(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The watch comes first, so that nothing falls between it and the reading.
	keys, err := f.store.Watch(ctx, f.prefix)
	if err != nil {
		return err
	}
	if err := f.load(ctx); err != nil {
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
			if err := f.changed(ctx, key); err != nil {
				return err
			}
		case <-again.C:
			if err := f.load(ctx); err != nil {
				return err
			}
		}
	}
}
