package token

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// recordVersion is the schema version of the stored key set.
const recordVersion = 1

// An unknown key id makes Keys read the store again, but no more often than once
// in reloadInterval, so that junk tokens cannot turn into store traffic, and for
// no longer than reloadTimeout.
const (
	reloadInterval = 5 * time.Second
	reloadTimeout  = 2 * time.Second
)

// Keys are the keys of one issuer: those that sign access tokens, newest first,
// and a secret from which all symmetric keys are derived. They are made once, at
// the first start, and live in the store under one key, so that all nodes have
// the same ones.
type Keys struct {
	store store.Store
	key   string

	current atomic.Pointer[keySet]

	reloading  sync.Mutex
	lastReload time.Time // when the last reading ended
	reloadErr  error     // how it ended
}

// keySet is one immutable state of the keys.
type keySet struct {
	signing []signingKey
	byID    map[string]*ecdsa.PublicKey
	secret  []byte
	jwks    []byte
	signer  jose.Signer
}

type signingKey struct {
	id      string
	private *ecdsa.PrivateKey
}

// keyRecord is the stored form.
type keyRecord struct {
	Version int                `json:"v"`
	Secret  []byte             `json:"secret"`
	Signing []signingKeyRecord `json:"signing"`
}

type signingKeyRecord struct {
	ID      string    `json:"kid"`
	Created time.Time `json:"created"`
	PKCS8   []byte    `json:"pkcs8"`
}

// OpenKeys reads the keys that the store holds below prefix, and makes them when
// there are none. Of two nodes that start at once, one makes them.
func OpenKeys(ctx context.Context, s store.Store, prefix string) (*Keys, error) {
	k := &Keys{store: s, key: prefix + "keys"}
	var fresh []byte
	var found []byte
	err := s.Update(ctx, k.key, func(r store.Record) (store.Record, error) {
		if r.Exists() {
			found = r.Value
			return r, errKeysExist
		}
		if fresh == nil {
			var err error
			if fresh, err = newKeyRecord(time.Now()); err != nil {
				return r, err
			}
		}
		return store.Record{Value: fresh}, nil
	})
	switch {
	case errors.Is(err, errKeysExist):
	case err != nil:
		return nil, fmt.Errorf("making signing keys: %w", err)
	default:
		found = fresh
	}
	set, err := parseKeyRecord(found)
	if err != nil {
		return nil, err
	}
	k.current.Store(set)
	return k, nil
}

var errKeysExist = errors.New("keys exist")

func newKeyRecord(now time.Time) ([]byte, error) {
	key, err := newSigningKey(now)
	if err != nil {
		return nil, err
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	return json.Marshal(keyRecord{Version: recordVersion, Secret: secret, Signing: []signingKeyRecord{key}})
}

func newSigningKey(now time.Time) (signingKeyRecord, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return signingKeyRecord{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return signingKeyRecord{}, err
	}
	return signingKeyRecord{ID: rand.Text()[:16], Created: now.UTC().Truncate(time.Second), PKCS8: der}, nil
}

func parseKeyRecord(data []byte) (*keySet, error) {
	var rec keyRecord
	if err := json.Unmarshal(data, &rec); err != nil {
		return nil, errors.New("the stored signing keys cannot be read")
	}
	if rec.Version != recordVersion {
		return nil, fmt.Errorf("the stored signing keys have version %d; this program reads version %d", rec.Version, recordVersion)
	}
	if len(rec.Secret) < 32 || len(rec.Signing) == 0 {
		return nil, errors.New("the stored signing keys are incomplete")
	}
	set := &keySet{secret: rec.Secret, byID: make(map[string]*ecdsa.PublicKey, len(rec.Signing))}
	var public jose.JSONWebKeySet
	for _, r := range rec.Signing {
		parsed, err := x509.ParsePKCS8PrivateKey(r.PKCS8)
		private, ok := parsed.(*ecdsa.PrivateKey)
		if err != nil || !ok || private.Curve != elliptic.P256() {
			return nil, fmt.Errorf("the stored signing key %q cannot be read", r.ID)
		}
		set.signing = append(set.signing, signingKey{id: r.ID, private: private})
		set.byID[r.ID] = &private.PublicKey
		public.Keys = append(public.Keys, jose.JSONWebKey{
			Key: &private.PublicKey, KeyID: r.ID, Algorithm: string(jose.ES256), Use: "sig",
		})
	}
	var err error
	if set.jwks, err = json.Marshal(public); err != nil {
		return nil, err
	}
	set.signer, err = newSigner(set.signing[0])
	return set, err
}

// JWKS returns the public keys as a JWK Set (RFC 7517 section 5). The caller
// must not change it.
func (k *Keys) JWKS() []byte { return k.current.Load().jwks }

// Derive returns a symmetric key of 32 bytes for one purpose (RFC 5869). The
// same label gives the same key on every node and after every restart.
func (k *Keys) Derive(label string) []byte {
	key, err := hkdf.Key(sha256.New, k.current.Load().secret, nil, label, 32)
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
	rec, err := k.store.Get(ctx, k.key)
	if errors.Is(err, store.ErrNotFound) {
		return nil // the keys at hand are all there are
	}
	if err != nil {
		return err
	}
	set, err := parseKeyRecord(rec.Value)
	if err != nil {
		return err
	}
	k.current.Store(set)
	return nil
}
