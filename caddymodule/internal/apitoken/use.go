package apitoken

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// When a token was used is noted in the store behind the requests: bookInterval is
// how often what is remembered is looked through, and useInterval how much later
// than the last note a use has to be to be noted as well.
const (
	bookInterval = time.Minute
	useInterval  = 10 * time.Minute
)

// usedAt remembers that a request came with the token. Most of the time it only
// reads, so that processors do not fight for the memory.
func (h *held) usedAt(now time.Time) {
	if seconds := now.Unix(); seconds-h.used.Load() >= int64(bookInterval/time.Second) {
		h.used.Store(seconds)
	}
}

// keepBooks forgets what has expired and notes what was used, until ctx is done.
func (t *Tokens) keepBooks(ctx context.Context) {
	tick := time.NewTicker(bookInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			t.expire(now)
			t.noteUses(ctx)
		}
	}
}

// expire forgets the tokens that have expired. The store drops them by itself.
func (t *Tokens) expire(now time.Time) {
	t.taking.Lock()
	defer t.taking.Unlock()
	for name, h := range t.current.Load().byName {
		if h.expiredAt(now) {
			t.take(name, nil)
		}
	}
}

var errNothingToNote = errors.New("nothing to note")

// noteUses tells the store when the tokens were used. What fails is done at the
// next time.
func (t *Tokens) noteUses(ctx context.Context) {
	for name, h := range t.current.Load().byName {
		used := h.used.Load()
		if used-h.noted.Load() < int64(useInterval/time.Second) {
			continue
		}
		err := t.store.Update(ctx, t.prefix+name, func(old store.Record) (store.Record, error) {
			rec, err := decode(old.Value)
			if !old.Exists() || err != nil || rec.ID != h.ID || rec.LastUsed.Unix() >= used {
				return old, errNothingToNote
			}
			rec.LastUsed = time.Unix(used, 0).UTC()
			data, err := json.Marshal(rec)
			return store.Record{Value: data, Expires: old.Expires}, err
		})
		if err != nil && !errors.Is(err, errNothingToNote) {
			if ctx.Err() == nil {
				t.log.Warn("could not note when a bearer token was used", zap.String("name", name), zap.Error(err))
			}
			return
		}
		h.noted.Store(used)
	}
}
