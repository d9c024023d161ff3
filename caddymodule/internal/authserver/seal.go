package authserver

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// transaction is what happens between a request and its answer while people
// sign in and decide. It travels through the browser sealed: nothing is stored
// for requests that nobody has signed in for, so a flood of them costs nothing,
// and a form can change none of it.
type transaction struct {
	ID      string    `json:"id"`
	Purpose purpose   `json:"p"`
	Started time.Time `json:"t"`

	// Browser is the hash of the browser's cookie: a transaction cannot move
	// to another browser.
	Browser []byte `json:"b"`

	// Session is the hash of the session that a form was made for.
	Session string `json:"s,omitempty"`

	// The validated authorization request.
	ClientID        string       `json:"c,omitempty"`
	RedirectURI     string       `json:"r,omitempty"`
	State           string       `json:"-"` // behind the JSON, which would change bytes that are no UTF-8
	Challenge       string       `json:"ch,omitempty"`
	ChallengeMethod string       `json:"cm,omitempty"`
	Resource        string       `json:"a,omitempty"`
	Scopes          oauth.Scopes `json:"sc,omitempty"`
	Locales         string       `json:"l,omitempty"`

	// The request of a device in place of an authorization request.
	UserCode oauth.UserCode `json:"uc,omitempty"`
	Device   string         `json:"d,omitempty"` // its id

	// How people shall sign in.
	Prompt string         `json:"pr,omitempty"`
	MaxAge *time.Duration `json:"ma,omitempty"`
	Hint   string         `json:"lh,omitempty"`

	// Ask says that a remembered consent does not answer the request.
	Ask bool `json:"as,omitempty"`

	// Then is where a sign-in leads that somebody made for a part of the account
	// page; empty for the page itself.
	Then string `json:"th,omitempty"`

	// Pending is set while something else has to happen before the person is
	// signed in, or has added a passkey.
	Pending *pending `json:"pe,omitempty"`

	// Due says on the page for passkeys that the password was right and is not
	// enough. Nothing else depends on it.
	Due bool `json:"du,omitempty"`

	// Secret is that of an authenticator app that is being set up.
	Secret []byte `json:"se,omitempty"`

	// unvouched says that nothing in front of the server has said who makes the
	// request at hand.
	unvouched bool
}

// purpose keeps the forms apart, so that none can be posted in place of another.
type purpose string

const (
	forAuthorize purpose = "authorize"
	forAccount   purpose = "account"
	forProvider  purpose = "provider"
	forUserCode  purpose = "user code" // before it is entered
	forDevice    purpose = "device"

	forCode       purpose = "code"        // the password was right
	forEnrol      purpose = "enrol"       // the password was right, and a second factor has to be set up
	forPasskey    purpose = "passkey"     // a passkey is asked for
	forFactor     purpose = "factor"      // the second factor is set up or changed
	forNewPasskey purpose = "new passkey" // a passkey is being made
)

// waiting is the transaction while something else has to happen. It has a purpose
// of its own until then.
func (t *transaction) waiting(p purpose, what *pending) *transaction {
	next := *t
	what.For = t.Purpose
	next.Purpose, next.Pending = p, what
	return &next
}

// resumed is the transaction as it was before it had to wait.
func (t *transaction) resumed() *transaction {
	next := *t
	next.Purpose, next.Pending = t.Pending.For, nil
	return &next
}

// clockError is how far ahead of the clock a time may be, as nodes have clocks of
// their own. What is further ahead was noted before the clock was set back, and tells
// nothing.
const clockError = time.Minute

// maxSealed bounds a sealed transaction in bytes.
const maxSealed = 24 << 10

var (
	errSealBroken  = errors.New("sealed value was not made by this server")
	errSealExpired = errors.New("sealed value is too old")
)

// sealer encrypts and authenticates transactions (AES-256-GCM).
type sealer struct{ aead cipher.AEAD }

func newSealer(key []byte) *sealer {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // only for a wrong key length, and derived keys have 32 bytes
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // not for AES
	}
	return &sealer{aead}
}

// newTransaction starts a transaction in a browser.
func newTransaction(p purpose, browser []byte) *transaction {
	return &transaction{ID: rand.Text(), Purpose: p, Started: time.Now().UTC(), Browser: browser}
}

func (s *sealer) seal(t *transaction) (string, error) {
	plain, err := json.Marshal(t)
	if err != nil {
		return "", err
	}
	plain = append(plain, t.State...)
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, plain, []byte(t.Purpose))), nil
}

// open returns the transaction of a form. Only the browser that it began in gets
// it back, and only for as long as a request can be decided.
func (s *sealer) open(sealed string, p purpose, browser []byte) (*transaction, error) {
	if len(sealed) > maxSealed {
		return nil, errSealBroken
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	if err != nil {
		return nil, errSealBroken
	}
	plain, err := s.aead.Open(nil, nil, raw, []byte(p))
	if err != nil {
		return nil, errSealBroken
	}
	t := &transaction{}
	decoder := json.NewDecoder(bytes.NewReader(plain))
	if err := decoder.Decode(t); err != nil {
		return nil, errSealBroken
	}
	t.State = string(plain[decoder.InputOffset():])
	if browser == nil || !bytes.Equal(t.Browser, browser) {
		return nil, errOtherBrowser
	}
	if age := time.Since(t.Started); age > grant.RequestLifetime || age < -clockError {
		return nil, errSealExpired
	}
	return t, nil
}

// openAny is open for a transaction of one of several purposes.
func (s *sealer) openAny(sealed string, browser []byte, purposes ...purpose) (*transaction, error) {
	for _, p := range purposes {
		if t, err := s.open(sealed, p, browser); !errors.Is(err, errSealBroken) {
			return t, err
		}
	}
	return nil, errSealBroken
}

var errOtherBrowser = errors.New("sealed value belongs to another browser")
