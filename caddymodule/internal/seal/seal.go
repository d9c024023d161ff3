// Package seal encrypts what a stolen copy of the store could be used with.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// KeyLength is the length of an encryption key in bytes.
const KeyLength = 32

var (
	// ErrNoKey says that something is sealed and no key has been given.
	ErrNoKey = errors.New("it is sealed, and there is no encryption_key. Add the line that it was sealed with: encryption_key <key>")

	// ErrOtherKey says that something is sealed with a key that is not among
	// the given ones.
	ErrOtherKey = errors.New("it is sealed with another encryption_key. Give that key behind the new one: encryption_key <new key> <old key>")

	// ErrBroken says that a sealed value was changed, or moved from elsewhere.
	ErrBroken = errors.New("it has been changed since it was sealed")
)

// Box seals and opens values (AES-256-GCM). The nil Box has no key: it leaves
// values as they are and opens none that is sealed.
type Box struct {
	keys []boxKey // the first one seals, all of them open
}

type boxKey struct {
	id   string
	aead cipher.AEAD
}

// New returns a box that seals with the first key and opens what any of them has
// sealed, or nil without keys. A key is 32 bytes in base64 or hexadecimal, as
// "openssl rand -base64 32" prints them.
func New(keys ...string) (*Box, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	b := &Box{}
	for _, text := range keys {
		raw, err := parseKey(text)
		if err != nil {
			return nil, err
		}
		key, err := newBoxKey(raw)
		if err != nil {
			return nil, err
		}
		b.keys = append(b.keys, key)
	}
	return b, nil
}

// parseKey reads a key. Its errors do not repeat it.
func parseKey(text string) ([]byte, error) {
	text = strings.TrimSpace(text)
	if raw, err := hex.DecodeString(text); err == nil && len(raw) == KeyLength {
		return raw, nil
	}
	unpadded := strings.TrimRight(text, "=")
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if raw, err := encoding.Strict().DecodeString(unpadded); err == nil && len(raw) == KeyLength {
			return raw, nil
		}
	}
	return nil, fmt.Errorf("an encryption_key is %d random bytes in base64 or hexadecimal. Make one with: openssl rand -base64 %d",
		KeyLength, KeyLength)
}

// newBoxKey derives the key that is used and the name that sealed values carry,
// which says nothing about the key.
func newBoxKey(raw []byte) (boxKey, error) {
	derived, err := hkdf.Key(sha256.New, raw, nil, "mcp_auth seal", KeyLength)
	if err != nil {
		return boxKey{}, err
	}
	id, err := hkdf.Key(sha256.New, raw, nil, "mcp_auth seal name", 4)
	if err != nil {
		return boxKey{}, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return boxKey{}, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return boxKey{id: hex.EncodeToString(id), aead: aead}, err
}

// sealed is the stored form of a sealed value.
type sealed struct {
	Layout int    `json:"sealed"`
	Key    string `json:"key"`
	Data   []byte `json:"data"`
}

const layout = 1

// Seal returns the stored form of a value. The place is bound to it: it opens
// nowhere else.
func (b *Box) Seal(place string, plain []byte) ([]byte, error) {
	if b == nil {
		return plain, nil
	}
	k := b.keys[0]
	return json.Marshal(sealed{Layout: layout, Key: k.id, Data: k.aead.Seal(nil, nil, plain, []byte(place))})
}

// Open returns the value of a stored form, which may also be a JSON object that
// was never sealed. current reports whether Seal would use the same key, or none
// as well; when it is false, the value should be sealed anew.
func (b *Box) Open(place string, stored []byte) (plain []byte, current bool, err error) {
	s, ok := parse(stored)
	if !ok {
		return stored, b == nil, nil
	}
	if s.Layout != layout {
		return nil, false, fmt.Errorf("it is sealed in the layout %d; this program knows layout %d", s.Layout, layout)
	}
	if b == nil {
		return nil, false, ErrNoKey
	}
	for i, k := range b.keys {
		if k.id != s.Key {
			continue
		}
		plain, err := k.aead.Open(nil, nil, s.Data, []byte(place))
		if err != nil {
			return nil, false, ErrBroken
		}
		return plain, i == 0, nil
	}
	return nil, false, ErrOtherKey
}

// Sealed reports whether a stored form is sealed.
func Sealed(stored []byte) bool {
	_, ok := parse(stored)
	return ok
}

func parse(stored []byte) (s sealed, ok bool) {
	err := json.Unmarshal(stored, &s)
	return s, err == nil && s.Layout != 0
}

// Fingerprint tells boxes with other keys apart, without giving the keys away. It
// is empty for the nil Box.
func (b *Box) Fingerprint() string {
	if b == nil {
		return ""
	}
	ids := make([]string, len(b.keys))
	for i, k := range b.keys {
		ids[i] = k.id
	}
	return strings.Join(ids, " ")
}
