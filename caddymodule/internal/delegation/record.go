package delegation

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/seal"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// RecordVersion is the schema version of the stored records.
const RecordVersion = 1

// record is the stored form of what a provider has given for a person.
type record struct {
	Version int `json:"v"`

	// Tokens are sealed and bound to the record. Sealing the same again comes out
	// differently, so they also tell one state from another.
	Tokens json.RawMessage `json:"tokens"`

	// Lease is until when a node is renewing the tokens.
	Lease time.Time `json:"lease,omitzero"`
}

// tokens is what is sealed. Whose they are is kept as the provider told it at the
// sign-in: a login that is another provider's by now gets none of them.
type tokens struct {
	Access  string    `json:"access"`
	Refresh string    `json:"refresh,omitempty"`
	Expires time.Time `json:"expires,omitzero"`

	Subject  string `json:"sub"`
	Provider string `json:"idp"`
	Stamp    string `json:"stamp"`
}

// tokensOf are those that came with an identity.
func tokensOf(id login.Identity) tokens {
	return tokens{Subject: id.Subject, Provider: id.Provider, Stamp: id.Stamp}.replaced(*id.Tokens)
}

// replaced are new tokens of the same person.
func (t tokens) replaced(by login.Tokens) tokens {
	t.Access, t.Refresh, t.Expires = by.Access, by.Refresh, by.Expires
	return t
}

// from reports whether a provider is the one that gave the tokens.
func (t tokens) from(p login.Delegate) bool {
	return p.Recognizes(login.Identity{Subject: t.Subject, Provider: t.Provider, Stamp: t.Stamp})
}

// errDamaged is for a record that nobody will be able to read at any time, so that
// waiting does not help.
var errDamaged = errors.New("the stored tokens of a provider are damaged")

func decode(value []byte) (*record, error) {
	rec := &record{}
	if err := json.Unmarshal(value, rec); err != nil {
		return nil, errDamaged
	}
	if rec.Version != RecordVersion {
		return nil, fmt.Errorf("the stored tokens of a provider have version %d; this program reads version %d", rec.Version, RecordVersion)
	}
	return rec, nil
}

func (k *Keeper) encode(key string, t tokens) ([]byte, error) {
	plain, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	sealed, err := k.box.Seal(key, plain)
	if err != nil {
		return nil, err
	}
	return json.Marshal(record{Version: RecordVersion, Tokens: sealed})
}

func (k *Keeper) open(key string, rec *record) (tokens, error) {
	var t tokens
	if !seal.Sealed(rec.Tokens) {
		return t, fmt.Errorf("%w: they are not sealed", errDamaged)
	}
	plain, _, err := k.box.Open(key, rec.Tokens)
	if err == nil {
		err = json.Unmarshal(plain, &t)
	}
	if err != nil {
		return t, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return t, nil
}

// What stands for a user in keys is that of ids of grants: 10 bytes in base32 with
// the extended hex alphabet (RFC 4648 section 7), in small letters.
const (
	userLength   = 16
	userAlphabet = "0123456789abcdefghijklmnopqrstuv"
)

// CheckRecord returns an error for stored tokens that this package could not have
// written at a key, of which name is what follows "delegation/".
func CheckRecord(name string, value []byte) error {
	if len(name) != userLength || strings.Trim(name, userAlphabet) != "" {
		return errors.New("the key is not that of a provider's tokens")
	}
	rec, err := decode(value)
	if err != nil {
		return err
	}
	if !seal.Sealed(rec.Tokens) {
		return errors.New("the stored tokens of a provider are not sealed")
	}
	return nil
}
