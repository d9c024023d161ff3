package limit

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// Nodes that share a store take what they allow out of one record for each key and
// window, several at a time: one at first, then twice as many with each lease that
// was used up, but never more than a twentieth of the limit. So a limit below
// forty is exact whatever comes where, a large one costs some thirty writes in a
// window, and what a node has leased and does not use is no more than what it
// has used, and a twentieth.
const fraction = 20

// A store that does not answer within leaseTimeout is left alone for a while,
// in which the node counts by itself: a limit is no reason to refuse a request
// that nobody can count.
const (
	leaseTimeout = 250 * time.Millisecond
	silence      = 2 * time.Second
)

// recordVersion is the schema version of the records.
const recordVersion = 1

// record is what all nodes have taken for a key in its window.
type record struct {
	Version int       `json:"v"`
	Ends    time.Time `json:"ends"`
	Leased  int       `json:"leased"`
}

func decode(data []byte) (record, error) {
	var rec record
	if err := json.Unmarshal(data, &rec); err != nil {
		return rec, fmt.Errorf("stored count cannot be read: %w", err)
	}
	if rec.Version != recordVersion {
		return rec, fmt.Errorf("stored count has version %d; this program reads version %d", rec.Version, recordVersion)
	}
	return rec, nil
}

var nameEncoding = base32.HexEncoding.WithPadding(base32.NoPadding)

// nameLength is the length of a record's name in bytes before its encoding.
const nameLength = 20

// recordKey is the key of a record in the store.
func (l *Limit) recordKey(key string) string {
	mac := hmac.New(sha256.New, l.counts.key)
	mac.Write([]byte(l.scope))
	mac.Write([]byte{0})
	mac.Write([]byte(key))
	return l.counts.prefix + strings.ToLower(nameEncoding.EncodeToString(mac.Sum(nil)[:nameLength]))
}

// errSpent says that there is nothing left to lease.
var errSpent = errors.New("the limit is spent")

// lease gets more for a counter whose node has used up what it had.
func (l *Limit) lease(ctx context.Context, key string, c *counter, now time.Time) {
	first := c.leased == 0
	// Strangers choose the keys of some limits, so records are bounded as well.
	if !l.shared || now.UnixNano() < l.counts.silent.Load() || first && !l.records.AllowN(now, 1) {
		l.alone(c)
		return
	}
	rec, granted, err := l.ask(ctx, l.recordKey(key), c.step, now)
	l.counts.heard(now, err)
	if err != nil {
		l.alone(c)
		return
	}
	c.left, c.leased = c.left+granted, rec.Leased
	// The window began with the first request at any node. The time left is
	// added to now, so that a clock that is set meanwhile changes nothing.
	if left := rec.Ends.Sub(now); left < c.ends.Sub(now) {
		c.ends = now.Add(left)
	}
	c.step = min(2*c.step, max(l.max/fraction, 1))
}

// alone allows what this node may do by itself for the rest of the window.
func (l *Limit) alone(c *counter) { c.left, c.leased = max(l.max-c.taken, 0), l.max }

// ask takes so many out of a record, or what is left there.
func (l *Limit) ask(ctx context.Context, key string, number int, now time.Time) (rec record, granted int, err error) {
	// A client that goes away does not take the lease with it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTimeout)
	defer cancel()
	err = l.counts.store.Update(ctx, key, func(r store.Record) (store.Record, error) {
		rec, granted = record{}, 0
		if r.Exists() {
			var err error
			if rec, err = decode(r.Value); err != nil {
				return r, err
			}
		}
		if !now.Before(rec.Ends) {
			rec = record{Version: recordVersion, Ends: now.Add(l.window)}
		}
		if granted = min(number, l.max-rec.Leased); granted <= 0 {
			granted = 0
			return r, errSpent
		}
		rec.Leased += granted
		data, err := json.Marshal(rec)
		// A second more than the window, so that it is not over on the way.
		return store.Record{Value: data, Expires: rec.Ends.Add(time.Second)}, err
	})
	if errors.Is(err, errSpent) {
		err = nil
	}
	return rec, granted, err
}

// heard notes whether the store has answered.
func (c *Counts) heard(now time.Time, err error) {
	if err == nil {
		if c.silent.Swap(0) != 0 {
			c.log.Info("the store answers again; rate limits are those of all nodes together")
		}
		return
	}
	if c.silent.Swap(now.Add(silence).UnixNano()) == 0 {
		c.log.Warn("the store does not answer; each node enforces the rate limits by itself", zap.Error(err))
	}
}

// RecordVersion is the schema version of stored counts.
const RecordVersion = recordVersion

// CheckRecord returns an error for a stored count that this package could not have
// written at a key, of which name is what follows "limit/".
func CheckRecord(name string, value []byte) error {
	if raw, err := nameEncoding.DecodeString(strings.ToUpper(name)); err != nil || len(raw) != nameLength || strings.ToLower(name) != name {
		return errors.New("the key is not that of a count")
	}
	rec, err := decode(value)
	if err == nil && (rec.Ends.IsZero() || rec.Leased <= 0) {
		err = errors.New("stored count is incomplete")
	}
	return err
}
