// This file implements the public keys of an issuer: RFC 7517 (JSON Web Key).

package jwks

import (
	"crypto"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Bounds of a set of keys. RSA keys of less than 2048 bits are not to be used
// (RFC 7518 section 3.3), and much larger ones cost more than they bring.
const (
	maxKeys    = 64
	minRSABits = 2048
	maxRSABits = 8192
)

// Key is a public key with what tells it from others.
type Key struct {
	jose.JSONWebKey
	print string
}

// keySet are the keys that an issuer had at a moment.
type keySet struct {
	keys  []Key
	asked time.Time // when they were asked for
	stale time.Time // when they have to be fetched again
	end   time.Time // after which they are good for nothing

	// generation is another one after a key was taken away, whose tokens must
	// not be taken for good any more.
	generation uint64
}

// Parse reads a set of public keys (section 5). Keys of kinds that are not known,
// keys for encryption and secret ones are left out.
func Parse(data []byte) ([]Key, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, errors.New("it is not a JSON Web Key Set")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("there are more than %d keys", maxKeys)
	}
	var out []Key
	for _, raw := range set.Keys {
		var key Key
		if json.Unmarshal(raw, &key.JSONWebKey) != nil || !key.Valid() || !key.IsPublic() || key.Use != "" && key.Use != "sig" {
			continue
		}
		if public, ok := key.Key.(*rsa.PublicKey); ok && (public.N.BitLen() < minRSABits || public.N.BitLen() > maxRSABits) {
			continue
		}
		sum, err := key.Thumbprint(crypto.SHA256)
		if err != nil {
			continue
		}
		key.print = key.KeyID + " " + key.Algorithm + " " + string(sum)
		key.Certificates, key.CertificatesURL = nil, nil
		out = append(out, key)
	}
	if len(out) == 0 {
		return nil, errors.New("there is no key to check signatures with")
	}
	return out, nil
}

// fit are the keys that a signature with the header may have been made with.
func (s *keySet) fit(header jose.Header) []Key {
	var out []Key
	for _, key := range s.keys {
		named := header.KeyID == "" || key.KeyID == header.KeyID
		if named && (key.Algorithm == "" || key.Algorithm == header.Algorithm) {
			out = append(out, key)
		}
	}
	return out
}

// hasAll reports whether none of the keys of before is missing.
func (s *keySet) hasAll(before *keySet) bool {
	for _, key := range before.keys {
		if !slices.ContainsFunc(s.keys, func(k Key) bool { return k.print == key.print }) {
			return false
		}
	}
	return true
}
