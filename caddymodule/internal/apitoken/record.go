package apitoken

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// RecordVersion is the schema version of stored tokens.
const RecordVersion = 1

// record is the stored form of a token. Its key has the name, and the record of
// the store says when it expires.
type record struct {
	Version          int          `json:"v"`
	ID               string       `json:"id"`
	Hash             []byte       `json:"hash"`
	Scopes           oauth.Scopes `json:"scopes,omitempty"`
	Resource         string       `json:"resource,omitempty"`
	RegistrationOnly bool         `json:"registration_only,omitempty"`
	Created          time.Time    `json:"created"`
	LastUsed         time.Time    `json:"last_used,omitzero"`
}

func decode(data []byte) (record, error) {
	var rec record
	if err := json.Unmarshal(data, &rec); err != nil {
		return rec, errors.New("stored token cannot be read")
	}
	if rec.Version != RecordVersion {
		return rec, fmt.Errorf("stored token has version %d; this program reads version %d", rec.Version, RecordVersion)
	}
	if !isID(rec.ID) || len(rec.Hash) != sha256.Size || rec.Created.IsZero() {
		return rec, errors.New("stored token is incomplete")
	}
	return rec, nil
}

// CheckRecord returns an error for a stored token that this package could not have
// written at a key, of which name is what follows "apitoken/".
func CheckRecord(name string, value []byte) error {
	if CheckName(name) != nil {
		return errors.New("the key is not that of a token")
	}
	_, err := decode(value)
	return err
}

// maxName bounds the name of a token in bytes.
const maxName = 64

// CheckName returns an error for what cannot be the name of a token.
func CheckName(name string) error {
	const alphanumeric = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	if name == "" || len(name) > maxName || strings.Trim(name, alphanumeric+"._-") != "" || !strings.Contains(alphanumeric, name[:1]) {
		return fmt.Errorf("the name of a token is made of up to %d letters and digits of ASCII, and of '.', '_' and '-' behind the first, "+
			"for example: ci-nightly", maxName)
	}
	return nil
}

// SubjectPrefix begins the subject of requests with a token; its name follows. No
// user, client or login may have a name that begins like it.
const SubjectPrefix = "token:"

// idPrefix begins the ids that stand for tokens where others have that of a
// grant.
const idPrefix = "apitoken:"

func newID() string { return idPrefix + rand.Text() }

func isID(id string) bool { return strings.HasPrefix(id, idPrefix) && len(id) > len(idPrefix) }

// The form of a token, which scanners for secrets can know.
const (
	secretPrefix = "mcp_"
	secretBytes  = 32 // random ones
	secretLength = len(secretPrefix) + (secretBytes*8+5)/6
)

func newSecret() string {
	random := make([]byte, secretBytes)
	rand.Read(random)
	return secretPrefix + base64.RawURLEncoding.EncodeToString(random)
}

// looksLike reports whether a presented token could be one of this package. It
// keeps access tokens, which come with nearly all requests, from being hashed to
// see that they are something else.
func looksLike(presented string) bool {
	return len(presented) == secretLength && strings.HasPrefix(presented, secretPrefix)
}

// digest is the SHA-256 of a token. The token has 256 random bits, so a fast hash
// is enough.
type digest [sha256.Size]byte

func digestOf(secret string) digest { return sha256.Sum256([]byte(secret)) }
