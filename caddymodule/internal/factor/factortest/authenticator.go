// Package factortest is the other side of package factor: an authenticator that
// makes passkeys and signs with them, and lies where a test tells it to.
package factortest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/go-webauthn/webauthn/protocol/webauthncbor"
)

// Flags of authenticator data (WebAuthn Level 3 section 6.1).
const (
	Present  byte = 1 << 0
	Verified byte = 1 << 2
	Backup   byte = 1 << 3 // eligible for it

	attested byte = 1 << 6
)

// Authenticator holds passkeys of one origin. Its fields can be changed between
// calls.
type Authenticator struct {
	Origin string // that the browser says it is at
	RPID   string // that it believes to be asked by
	Flags  byte
	Step   uint32 // how much the counter goes up with each signature

	count    uint32
	passkeys []*passkey
}

// idLength is the length of credential IDs in bytes.
const idLength = 16

type passkey struct {
	id, handle []byte
	key        *ecdsa.PrivateKey
}

// New returns an authenticator that verifies its user.
func New(origin, rpID string) *Authenticator {
	return &Authenticator{Origin: origin, RPID: rpID, Flags: Present | Verified, Step: 1}
}

// base64URL is bytes in the JSON of WebAuthn.
type base64URL []byte

// MarshalJSON implements json.Marshaler.
func (b base64URL) MarshalJSON() ([]byte, error) {
	return json.Marshal(base64.RawURLEncoding.EncodeToString(b))
}

// UnmarshalJSON implements json.Unmarshaler.
func (b *base64URL) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	*b = raw
	return err
}

// options is what is read of the options for navigator.credentials.
type options struct {
	PublicKey struct {
		Challenge string `json:"challenge"`
		User      struct {
			ID base64URL `json:"id"`
		} `json:"user"`
	} `json:"publicKey"`
}

// credential is what the page posts.
type credential struct {
	ID       base64URL      `json:"id"`
	RawID    base64URL      `json:"rawId"`
	Type     string         `json:"type"`
	Response map[string]any `json:"response"`
}

// Create answers the options for a new passkey.
func (a *Authenticator) Create(opts []byte) ([]byte, error) {
	var o options
	if err := json.Unmarshal(opts, &o); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	p := &passkey{id: make([]byte, idLength), handle: o.PublicKey.User.ID, key: key}
	rand.Read(p.id)
	a.passkeys = append(a.passkeys, p)
	data, err := a.attestedData(p)
	if err != nil {
		return nil, err
	}
	object, err := webauthncbor.Marshal(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": data})
	if err != nil {
		return nil, err
	}
	client, err := a.clientData("webauthn.create", o.PublicKey.Challenge)
	if err != nil {
		return nil, err
	}
	return json.Marshal(credential{
		ID: p.id, RawID: p.id, Type: "public-key",
		Response: map[string]any{"clientDataJSON": base64URL(client), "attestationObject": base64URL(object)},
	})
}

// attestedData is the authenticator data with the public key.
func (a *Authenticator) attestedData(p *passkey) ([]byte, error) {
	point, err := p.key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		return nil, err
	}
	public, err := webauthncbor.Marshal(map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]})
	if err != nil {
		return nil, err
	}
	data := a.data(attested)
	data = append(data, make([]byte, 16)...) // the AAGUID of nobody
	data = append(data, 0, idLength)         // two bytes
	return append(append(data, p.id...), public...), nil
}

func (a *Authenticator) data(more byte) []byte {
	hash := sha256.Sum256([]byte(a.RPID))
	return binary.BigEndian.AppendUint32(append(hash[:], a.Flags|more), a.count)
}

func (a *Authenticator) clientData(kind, challenge string) ([]byte, error) {
	return json.Marshal(map[string]any{"type": kind, "challenge": challenge, "origin": a.Origin, "crossOrigin": false})
}

// Get answers the options for a sign-in with the newest passkey.
func (a *Authenticator) Get(opts []byte) ([]byte, error) {
	if len(a.passkeys) == 0 {
		return nil, fmt.Errorf("the authenticator has no passkey")
	}
	return a.GetAs(opts, a.passkeys[len(a.passkeys)-1].handle)
}

// GetAs is Get in the name of another user handle.
func (a *Authenticator) GetAs(opts, handle []byte) ([]byte, error) {
	var o options
	if err := json.Unmarshal(opts, &o); err != nil {
		return nil, err
	}
	p := a.passkeys[len(a.passkeys)-1]
	a.count += a.Step
	data := a.data(0)
	client, err := a.clientData("webauthn.get", o.PublicKey.Challenge)
	if err != nil {
		return nil, err
	}
	clientHash := sha256.Sum256(client)
	digest := sha256.Sum256(append(slices.Clip(data), clientHash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, p.key, digest[:])
	if err != nil {
		return nil, err
	}
	return json.Marshal(credential{
		ID: p.id, RawID: p.id, Type: "public-key",
		Response: map[string]any{
			"clientDataJSON": base64URL(client), "authenticatorData": base64URL(data),
			"signature": base64URL(signature), "userHandle": base64URL(handle),
		},
	})
}

// Clone returns a copy that goes on by itself.
func (a *Authenticator) Clone() *Authenticator {
	c := *a
	return &c
}
