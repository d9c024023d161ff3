package token

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// recordVersion is the schema version of the stored key set.
const recordVersion = 1

// keyRecord is the stored form of an issuer's keys.
type keyRecord struct {
	Version int                `json:"v"`
	Secret  []byte             `json:"secret"`
	Signing []signingKeyRecord `json:"signing"` // by when they start to sign, the last first
}

// signingKeyRecord is a key from its publication on until the last token that it
// has signed has expired.
type signingKeyRecord struct {
	ID      string    `json:"kid"`
	Created time.Time `json:"created"`
	PKCS8   []byte    `json:"pkcs8"`

	// From is when the key starts to sign; zero for at once.
	From time.Time `json:"from,omitzero"`

	// TokenLifetime is the longest lifetime, in seconds, of the tokens that
	// the key may have signed; zero when it is not known.
	TokenLifetime int64 `json:"token_lifetime,omitempty"`
}

// starts is when the key starts to sign.
func (r signingKeyRecord) starts() time.Time {
	if r.From.IsZero() {
		return r.Created
	}
	return r.From
}

// retires is when the last token of the key has expired, if it stops to sign at
// the moment stops.
func (r signingKeyRecord) retires(stops time.Time) time.Time {
	lifetime := time.Duration(r.TokenLifetime) * time.Second
	if lifetime == 0 {
		lifetime = minLifetime
	}
	return stops.Add(lifetime + clockSkew)
}

func (rec *keyRecord) clone() *keyRecord {
	return &keyRecord{Version: rec.Version, Secret: rec.Secret, Signing: slices.Clone(rec.Signing)}
}

func newKeyRecord(now time.Time, tokens time.Duration) (*keyRecord, error) {
	key, err := newSigningKey(now, tokens)
	if err != nil {
		return nil, err
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	return &keyRecord{Version: recordVersion, Secret: secret, Signing: []signingKeyRecord{key}}, nil
}

func newSigningKey(now time.Time, tokens time.Duration) (signingKeyRecord, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return signingKeyRecord{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return signingKeyRecord{}, err
	}
	return signingKeyRecord{
		ID: rand.Text()[:16], Created: now.UTC().Truncate(time.Second), PKCS8: der, TokenLifetime: seconds(tokens),
	}, nil
}

// seconds rounds up.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

func decodeKeyRecord(data []byte) (*keyRecord, error) {
	rec := &keyRecord{}
	if err := json.Unmarshal(data, rec); err != nil {
		return nil, errors.New("the stored signing keys cannot be read")
	}
	if rec.Version != recordVersion {
		return nil, fmt.Errorf("the stored signing keys have version %d; this program reads version %d", rec.Version, recordVersion)
	}
	if len(rec.Secret) < 32 || len(rec.Signing) == 0 {
		return nil, errors.New("the stored signing keys are incomplete")
	}
	// Records of before the first rotation have one key and no order.
	slices.SortStableFunc(rec.Signing, func(a, b signingKeyRecord) int { return b.starts().Compare(a.starts()) })
	return rec, nil
}

// keySet is one immutable state of the keys.
type keySet struct {
	record *keyRecord
	signer []timedSigner // the last to start first
	byID   map[string]*ecdsa.PublicKey
	jwks   []byte
}

type timedSigner struct {
	from        time.Time
	jose.Signer // of access tokens

	id      string
	private *ecdsa.PrivateKey
}

func newKeySet(rec *keyRecord) (*keySet, error) {
	set := &keySet{record: rec, byID: make(map[string]*ecdsa.PublicKey, len(rec.Signing))}
	var public jose.JSONWebKeySet
	for _, r := range rec.Signing {
		parsed, err := x509.ParsePKCS8PrivateKey(r.PKCS8)
		private, ok := parsed.(*ecdsa.PrivateKey)
		if err != nil || !ok || private.Curve != elliptic.P256() {
			return nil, fmt.Errorf("the stored signing key %q cannot be read", r.ID)
		}
		signer, err := newSigner(r.ID, private, oauth.AccessTokenType)
		if err != nil {
			return nil, err
		}
		set.signer = append(set.signer, timedSigner{from: r.starts(), Signer: signer, id: r.ID, private: private})
		set.byID[r.ID] = &private.PublicKey
		public.Keys = append(public.Keys, jose.JSONWebKey{
			Key: &private.PublicKey, KeyID: r.ID, Algorithm: string(jose.ES256), Use: "sig",
		})
	}
	var err error
	set.jwks, err = json.Marshal(public)
	return set, err
}

// signerAt is the key that signs at a moment: the last one that has started. A
// clock that is behind the one of the node that made the first key gets that key.
func (s *keySet) signerAt(now time.Time) timedSigner {
	for _, k := range s.signer {
		if !now.Before(k.from) {
			return k
		}
	}
	return s.signer[len(s.signer)-1]
}

// lacks reports whether the set has no more a key that the other one has.
func (s *keySet) lacks(other *keySet) bool {
	for id := range other.byID {
		if _, ok := s.byID[id]; !ok {
			return true
		}
	}
	return false
}
