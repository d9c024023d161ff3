package token

import (
	"context"
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/seal"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// An unknown key id makes Keys read the store again, but no more often than once
// in reloadInterval, so that junk tokens cannot turn into store traffic, and for
// no longer than reloadTimeout.
const (
	reloadInterval = 5 * time.Second
	reloadTimeout  = 2 * time.Second
)

// KeysConfig says how keys are kept.
type KeysConfig struct {
	// Box seals the keys in the store; nil to keep them as they are.
	Box *seal.Box

	// RotateAfter is how long a signing key is used; 0 for ever.
	RotateAfter time.Duration

	// TokenLifetime is the longest lifetime of access tokens. A key is kept
	// until the last token that it may have signed has expired.
	TokenLifetime time.Duration

	// Log is told of rotations and of trouble; nil for nobody.
	Log *zap.Logger
}

// Keys are the keys of one issuer: those that sign access tokens, and a secret
// from which all symmetric keys are derived. They are made once, at the first
// start, and live in the store under one key, so that all nodes have the same
// ones.
type Keys struct {
	store store.Store
	key   string

	current atomic.Pointer[keySet]

	// dropped counts how often a key was taken out of the set, after which
	// nothing that it has signed is good any more.
	dropped atomic.Uint64

	// taking is held from before the store is asked until its answer is the
	// current set. Otherwise an answer from before a stolen key was removed
	// could come last, and bring that key back.
	taking sync.Mutex

	mu  sync.Mutex // of cfg
	cfg KeysConfig

	reloading  sync.Mutex
	lastReload time.Time // when the last reading ended
	reloadErr  error     // how it ended
}

// OpenKeys reads the keys that the store holds below prefix, and makes them when
// there are none. Of two nodes that start at once, one makes them.
func OpenKeys(ctx context.Context, s store.Store, prefix string, cfg KeysConfig) (*Keys, error) {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	k := &Keys{store: s, key: prefix + "keys", cfg: cfg}
	if err := k.maintain(ctx); err != nil {
		return nil, err
	}
	return k, nil
}

// Configure changes how the keys are kept, as a new configuration does. When the
// keys cannot be kept that way, everything stays as it was.
func (k *Keys) Configure(ctx context.Context, cfg KeysConfig) error {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	k.mu.Lock()
	before := k.cfg
	k.cfg = cfg
	k.mu.Unlock()
	err := k.maintain(ctx)
	if err != nil {
		k.mu.Lock()
		k.cfg = before
		k.mu.Unlock()
	}
	return err
}

func (k *Keys) config() KeysConfig {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.cfg
}

// decode opens and parses the stored form. current is false when it should be
// sealed anew.
func (k *Keys) decode(data []byte, box *seal.Box) (rec *keyRecord, current bool, err error) {
	plain, current, err := box.Open(k.key, data)
	if err != nil {
		return nil, false, fmt.Errorf("the stored signing keys cannot be opened: %w", err)
	}
	if rec, err = decodeKeyRecord(plain); err != nil {
		return nil, false, err
	}
	// What cannot be read must be noticed before anything is written over it.
	_, err = newKeySet(rec)
	return rec, current, err
}

// encode is the stored form, unless err says that there is nothing to store.
func (k *Keys) encode(rec *keyRecord, err error, box *seal.Box) (store.Record, error) {
	if err != nil {
		return store.Record{}, err
	}
	plain, err := json.Marshal(rec)
	if err != nil {
		return store.Record{}, err
	}
	data, err := box.Seal(k.key, plain)
	return store.Record{Value: data}, err
}

// use makes a stored state the current one. The caller holds taking.
func (k *Keys) use(rec *keyRecord) error {
	set, err := newKeySet(rec)
	if err != nil {
		return err
	}
	before := k.current.Swap(set)
	if before != nil && set.lacks(before) {
		k.dropped.Add(1)
	}
	return nil
}

// JWKS returns the public keys as a JWK Set (RFC 7517 section 5). The caller
// must not change it.
func (k *Keys) JWKS() []byte { return k.current.Load().jwks }

// Generation changes when a key has been taken away, after which nothing that it
// has signed is good any more.
func (k *Keys) Generation() uint64 { return k.dropped.Load() }

// Derive returns a symmetric key of 32 bytes for one purpose (RFC 5869). The
// same label gives the same key on every node and after every restart.
func (k *Keys) Derive(label string) []byte {
	key, err := hkdf.Key(sha256.New, k.current.Load().record.Secret, nil, label, 32)
	if err != nil {
		// The only error is a length beyond what HKDF can give.
		panic(err)
	}
	return key
}

// public returns the verification key with the id, ErrMalformed when there is
// none, or ErrUnavailable. An unknown id makes it read the store again, since
// another node may have made a new key.
func (k *Keys) public(ctx context.Context, id string) (*ecdsa.PublicKey, error) {
	if key, ok := k.current.Load().byID[id]; ok {
		return key, nil
	}
	if err := k.reload(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if key, ok := k.current.Load().byID[id]; ok {
		return key, nil
	}
	return nil, ErrMalformed
}

// reload reads the keys again. Callers that come while it is at work, or shortly
// after, share the outcome.
func (k *Keys) reload(ctx context.Context) error {
	k.reloading.Lock()
	defer k.reloading.Unlock()
	if !k.lastReload.IsZero() && time.Since(k.lastReload) < reloadInterval {
		return k.reloadErr
	}
	// Whoever hangs up must not spoil the reading for all others.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reloadTimeout)
	defer cancel()
	k.reloadErr = k.read(ctx)
	k.lastReload = time.Now()
	return k.reloadErr
}

func (k *Keys) read(ctx context.Context) error {
	k.taking.Lock()
	defer k.taking.Unlock()
	stored, err := k.store.Get(ctx, k.key)
	if errors.Is(err, store.ErrNotFound) {
		return nil // the keys at hand are all there are
	}
	if err != nil {
		return err
	}
	rec, _, err := k.decode(stored.Value, k.config().Box)
	if err != nil {
		return err
	}
	return k.use(rec)
}
