package token

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/feed"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// PublishLead is how long a new signing key is published before it is used: the
// other nodes, and whoever keeps a copy of the JWK Set, then know it when the
// first token comes. It is three times as long as such copies may be kept.
const PublishLead = 15 * time.Minute

// KeyInfo tells of a signing key.
type KeyInfo struct {
	ID      string    `json:"kid"`
	Created time.Time `json:"created"`

	// State is "next", "current" or "previous".
	State string `json:"state"`

	// SignsFrom is when the key starts to sign.
	SignsFrom time.Time `json:"signs_from"`

	// AcceptedUntil is when the last token of a previous key has expired and
	// the key is removed; zero for the others.
	AcceptedUntil time.Time `json:"accepted_until,omitzero"`
}

// List returns the signing keys, the newest first.
func (k *Keys) List() []KeyInfo { return k.current.Load().record.infos(time.Now()) }

func (rec *keyRecord) infos(now time.Time) []KeyInfo {
	var out []KeyInfo
	state := "next"
	for i, r := range rec.Signing {
		info := KeyInfo{ID: r.ID, Created: r.Created, SignsFrom: r.starts(), State: state}
		switch {
		case state == "previous":
			info.AcceptedUntil = r.retires(rec.Signing[i-1].starts())
		case !now.Before(r.starts()), i == len(rec.Signing)-1:
			info.State, state = "current", "previous"
		}
		out = append(out, info)
	}
	return out
}

// Rotate makes a new signing key and returns all of them. The new one is
// published at once and signs after PublishLead; the others are kept until their
// last token has expired. When immediately is set, as after a key has been
// stolen, the new key signs at once and all others are removed: every access
// token that they have signed is refused from then on, and clients use their
// refresh tokens. A key that waits for its time to sign is not replaced by yet
// another one.
func (k *Keys) Rotate(ctx context.Context, immediately bool) ([]KeyInfo, error) {
	err := k.change(ctx, func(rec *keyRecord, now time.Time, cfg KeysConfig) (bool, error) {
		if immediately {
			fresh, err := newSigningKey(now, cfg.TokenLifetime)
			rec.Signing = []signingKeyRecord{fresh}
			return true, err
		}
		if now.Before(rec.Signing[0].starts()) {
			return false, nil
		}
		return true, rec.add(now, cfg)
	})
	if err != nil {
		return nil, err
	}
	return k.List(), nil
}

// add puts a key before the others that signs after PublishLead.
func (rec *keyRecord) add(now time.Time, cfg KeysConfig) error {
	fresh, err := newSigningKey(now, cfg.TokenLifetime)
	if err != nil {
		return err
	}
	fresh.From = now.Add(PublishLead).UTC().Truncate(time.Second)
	rec.Signing = slices.Insert(rec.Signing, 0, fresh)
	return nil
}

// maintain brings the stored keys to where they should be at this moment, and
// takes over what other nodes have made of them.
func (k *Keys) maintain(ctx context.Context) error {
	return k.change(ctx, func(rec *keyRecord, now time.Time, cfg KeysConfig) (bool, error) {
		changed := rec.retire(now)
		changed = rec.noteLifetime(now, cfg.TokenLifetime) || changed
		if cfg.RotateAfter > 0 && !now.Add(PublishLead).Before(rec.Signing[0].starts().Add(cfg.RotateAfter)) {
			return true, rec.add(now, cfg)
		}
		return changed, nil
	})
}

// retire removes the keys whose last token has expired.
func (rec *keyRecord) retire(now time.Time) bool {
	for i := 1; i < len(rec.Signing); i++ {
		if now.After(rec.Signing[i].retires(rec.Signing[i-1].starts())) {
			// Those behind it have stopped to sign even earlier, but may have
			// signed tokens that live longer.
			rec.Signing = slices.Delete(rec.Signing, i, i+1)
			rec.retire(now)
			return true
		}
	}
	return false
}

// noteLifetime keeps the longest lifetime of the tokens that each key which signs
// now, or will, may have signed.
func (rec *keyRecord) noteLifetime(now time.Time, tokens time.Duration) (changed bool) {
	if tokens == 0 {
		return false
	}
	for i := range rec.Signing {
		r := &rec.Signing[i]
		longest := max(r.TokenLifetime, seconds(tokens))
		if r.TokenLifetime == 0 {
			longest = max(longest, seconds(minLifetime)) // for the tokens of before
		}
		changed = changed || longest != r.TokenLifetime
		r.TokenLifetime = longest
		if !now.Before(r.starts()) {
			return changed
		}
	}
	return changed
}

var errKeysCurrent = errors.New("the stored keys are as they should be")

// change updates the stored keys in one atomic step, and makes them when there
// are none, without fn. fn reports whether it has changed something; what is sealed with
// another key than the current one is written in any case.
func (k *Keys) change(ctx context.Context, fn func(rec *keyRecord, now time.Time, cfg KeysConfig) (bool, error)) error {
	k.taking.Lock()
	defer k.taking.Unlock()
	cfg := k.config()
	now := time.Now()
	var rec *keyRecord
	err := k.store.Update(ctx, k.key, func(r store.Record) (store.Record, error) {
		current, made := false, false
		var err error
		if r.Exists() {
			rec, current, err = k.decode(r.Value, cfg.Box)
		} else {
			rec, made, err = k.makeRecord(now, cfg)
		}
		if err != nil || made {
			return k.encode(rec, err, cfg.Box)
		}
		changed, err := fn(rec, now, cfg)
		if err == nil && !changed && current {
			err = errKeysCurrent
		}
		return k.encode(rec, err, cfg.Box)
	})
	if err != nil && !errors.Is(err, errKeysCurrent) {
		return fmt.Errorf("keeping the signing keys: %w", err)
	}
	return k.use(rec)
}

// makeRecord returns the keys for a store that has none: new ones at the first
// start, and those at hand when the store has lost them, since handles and tokens
// of all nodes depend on them.
func (k *Keys) makeRecord(now time.Time, cfg KeysConfig) (rec *keyRecord, made bool, err error) {
	if set := k.current.Load(); set != nil {
		cfg.Log.Error("the store has lost the signing keys, and maybe more; writing those at hand")
		return set.record.clone(), true, nil
	}
	rec, err = newKeyRecord(now, cfg.TokenLifetime)
	return rec, err == nil, err
}

// Follow keeps the keys up to date with the other nodes, and rotates and retires
// them when it is time, until ctx is done.
func (k *Keys) Follow(ctx context.Context) {
	feed.Feed{
		Store: k.store, Prefix: k.key, What: "signing keys", Log: k.config().Log,
		Load:    k.maintain,
		Changed: func(ctx context.Context, _ string) error { return k.read(ctx) },
	}.Follow(ctx)
}
