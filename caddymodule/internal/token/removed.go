package token

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// A client that is removed takes all of its access tokens along, however many
// grants it had: by one entry in the set of revocations, under a hash of its id.

// removalVersion is the schema version of the records of removed clients.
const removalVersion = 1

// removal is the stored form of a client that was removed.
type removal struct {
	Version int `json:"v"`

	// Until is the last moment, in Unix seconds, of the tokens that are refused.
	// An id that never comes back has none.
	Until int64 `json:"until,omitempty"`
}

// removalNameLength is the length of what removalName returns. The ids of grants
// are shorter.
const removalNameLength = 52

var removalEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// removalName is the name of a client's entry.
func removalName(clientID string) string {
	sum := sha256.Sum256([]byte(clientID))
	return removalEncoding.EncodeToString(sum[:])
}

// refusedUntil reads a record. One that cannot be read refuses everything: nobody
// knows what a newer version of this program meant by it.
func refusedUntil(value []byte) int64 {
	var rec removal
	if json.Unmarshal(value, &rec) != nil || rec.Version != removalVersion || rec.Until == 0 {
		return math.MaxInt64
	}
	return rec.Until
}

// AddClient revokes all access tokens that a client got up to a moment; the zero
// time means all that it can ever have. The lifetime and the errors are those of
// Add. An entry can only become stricter.
func (r *Revocations) AddClient(ctx context.Context, clientID string, until time.Time, lifetime time.Duration) error {
	name := removalName(clientID)
	last, rec := int64(math.MaxInt64), removal{Version: removalVersion}
	now := time.Now()
	// Tokens may still be issued until then.
	lifetime = max(lifetime, minLifetime) + clockSkew
	if !until.IsZero() {
		last, rec.Until = until.Unix(), until.Unix()
		lifetime += max(until.Sub(now), 0)
	}
	value, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	r.markClient(name, last, lifetime)
	err = r.store.Update(ctx, r.prefix+name, func(old store.Record) (store.Record, error) {
		if old.Exists() && refusedUntil(old.Value) >= last {
			return old, errKnown
		}
		return store.Record{Value: value, Expires: now.Add(lifetime)}, nil
	})
	if errors.Is(err, errKnown) {
		return nil
	}
	return err
}

// markClient puts a client into the set, unless an entry that is as strict is
// there.
func (r *Revocations) markClient(name string, until int64, lifetime time.Duration) {
	if known, ok := r.set.Get(name); ok && known.(int64) >= until {
		return
	}
	r.makeRoom()
	r.set.Set(name, until, lifetime)
	// Behind the entry, so that whoever sees the number sees the entry too.
	r.removed.Add(1)
	if r.clientRevoked != nil {
		r.clientRevoked()
	}
}

// loadClient reads the record of a removed client, unless it is known as it is:
// an entry that becomes stricter lives longer, too.
func (r *Revocations) loadClient(ctx context.Context, e store.Entry) error {
	_, expires, ok := r.set.GetWithExpiration(strings.TrimPrefix(e.Key, r.prefix))
	if ok && !e.Expires.After(expires.Add(time.Second)) {
		return nil
	}
	return r.loadKey(ctx, e.Key)
}

// RefusesClient reports whether a token of a client is refused that was issued at
// a moment in Unix seconds.
func (r *Revocations) RefusesClient(clientID string, issued int64) bool {
	if r.removed.Load() == 0 {
		return false
	}
	until, ok := r.set.Get(removalName(clientID))
	return ok && issued <= until.(int64)
}

// endOfTime is the end of the year 9999, for entries that refuse everything.
const endOfTime = 253_402_300_799

// RemovedUntil returns the last second of the tokens of a client that are refused
// because it was removed, if there is one.
func (r *Revocations) RemovedUntil(clientID string) (time.Time, bool) {
	until, ok := r.set.Get(removalName(clientID))
	if !ok {
		return time.Time{}, false
	}
	return time.Unix(min(until.(int64), endOfTime), 0), true
}

// verified is a token in the cache of a verifier. All that is looked at for each
// request is in one place of the memory.
type verified struct {
	claims Claims

	// removed is how many clients had been removed when that of the token was
	// found not to be among them: as long as there are no more, it need not be
	// looked for again.
	removed atomic.Uint64
}

// clientRemoved reports whether the client of the token was removed.
func (v *verified) clientRemoved(r *Revocations) bool {
	n := r.removed.Load()
	if v.removed.Load() == n {
		return false
	}
	if r.RefusesClient(v.claims.ClientID, v.claims.IssuedAt) {
		return true
	}
	v.removed.Store(n)
	return false
}

// IsRemoval reports whether the name of a record below "revoked/" is that of a
// client.
func IsRemoval(name string) bool {
	return len(name) == removalNameLength && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// RemovalVersion is the schema version of the records of removed clients.
const RemovalVersion = removalVersion

// CheckRemoval returns an error for the record of a removed client that this
// package could not have written.
func CheckRemoval(value []byte) error {
	var rec removal
	if err := json.Unmarshal(value, &rec); err != nil {
		return fmt.Errorf("stored removal of a client cannot be read: %w", err)
	}
	if rec.Version != removalVersion {
		return fmt.Errorf("stored removal of a client has version %d; this program reads version %d", rec.Version, removalVersion)
	}
	return nil
}
