package factor

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/seal"
)

// RecordVersion is the schema version of the stored records.
const RecordVersion = 1

// record is the stored form of all that a user has set up. It is stored under
// the part of the key that stands for the user.
type record struct {
	Version  int       `json:"v"`
	User     string    `json:"user"` // the subject
	TOTP     *totp     `json:"totp,omitempty"`
	Passkeys []passkey `json:"passkeys,omitempty"`
}

// totp is an authenticator app.
type totp struct {
	// Secret is sealed with a key of the issuer and bound to the record.
	Secret json.RawMessage `json:"secret"`
	Since  time.Time       `json:"since"`

	// Step is the time step of the last code that was accepted: no code of it,
	// or of one before, is accepted again.
	Step int64 `json:"step"`

	// Wrong counts the wrong codes since the last right one.
	Wrong int `json:"wrong,omitempty"`

	// Recovery are the SHA-256 of the recovery codes that are left.
	Recovery [][]byte `json:"recovery,omitempty"`
}

// passkey is a public key credential of a user.
type passkey struct {
	ID        []byte `json:"id"`
	PublicKey []byte `json:"key"` // COSE
	Count     uint32 `json:"count,omitempty"`

	// Backup is the flag that says whether the passkey can be on several
	// devices. It never changes.
	Backup bool `json:"backup,omitempty"`

	// Stamp is that of the password at the time: a passkey stands in for the
	// password, so it ends with it.
	Stamp string    `json:"stamp,omitempty"`
	Name  string    `json:"name"`
	Added time.Time `json:"added"`
	Used  time.Time `json:"used,omitzero"`
}

// decode reads a stored record, or makes an empty one when there is none.
func decode(value []byte) (*record, error) {
	if value == nil {
		return &record{Version: RecordVersion}, nil
	}
	rec := &record{}
	if err := json.Unmarshal(value, rec); err != nil {
		return nil, fmt.Errorf("stored factors cannot be read: %w", err)
	}
	if rec.Version != RecordVersion {
		return nil, fmt.Errorf("stored factors have version %d; this program reads version %d", rec.Version, RecordVersion)
	}
	return rec, nil
}

// encode is the stored form, or nil when nothing is left that is worth a record.
func (rec *record) encode() ([]byte, error) {
	if rec.TOTP == nil && len(rec.Passkeys) == 0 {
		return nil, nil
	}
	return json.Marshal(rec)
}

// partBytes is how much of a MAC stands for a user, in bytes.
const partBytes = 10

var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// isPart reports whether a text can stand for a user in a key.
func isPart(text string) bool {
	raw, err := lowerBase32.DecodeString(text)
	return err == nil && len(raw) == partBytes && lowerBase32.EncodeToString(raw) == text
}

// CheckRecord returns an error for stored factors that this package could not
// have written at a key, of which name is what follows "factor/".
func CheckRecord(name string, value []byte) error {
	if !isPart(name) {
		return errors.New("the key is not that of factors")
	}
	rec, err := decode(value)
	if err != nil {
		return err
	}
	if rec.User == "" || len(rec.Passkeys) > MaxPasskeys || rec.TOTP == nil && len(rec.Passkeys) == 0 {
		return errors.New("stored factors are incomplete")
	}
	if t := rec.TOTP; t != nil {
		hashes := !slices.ContainsFunc(t.Recovery, func(h []byte) bool { return len(h) != sha256.Size })
		if !seal.Sealed(t.Secret) || t.Since.IsZero() || t.Wrong < 0 || len(t.Recovery) > recoveryCodes || !hashes {
			return errors.New("a stored second factor is incomplete")
		}
	}
	for _, p := range rec.Passkeys {
		if len(p.ID) == 0 || len(p.PublicKey) == 0 || strings.TrimSpace(p.Name) == "" || p.Added.IsZero() {
			return errors.New("a stored passkey is incomplete")
		}
	}
	return nil
}
