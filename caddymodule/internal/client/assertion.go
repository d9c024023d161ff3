// This file implements RFC 7523 (JWT Profile for Client Authentication): the
// method private_key_jwt.

package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// assertionAlgorithms are those that assertions may be signed with: asymmetric
// ones only, and never "none".
var assertionAlgorithms = []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.PS256, jose.RS256, jose.EdDSA}

// AssertionAlgorithms names the algorithms of assertions for metadata.
func AssertionAlgorithms() []string {
	var out []string
	for _, alg := range assertionAlgorithms {
		out = append(out, string(alg))
	}
	return out
}

// Bounds of an assertion.
const (
	maxAssertionLength = 8 << 10
	maxAssertionID     = 512
	assertionLifetime  = time.Hour // at most, from now on
	assertionSkew      = time.Minute
)

// assertionVersion is the schema version of the marks of used assertions.
const assertionVersion = 1

// usedMark is what is stored for a used assertion.
var usedMark = fmt.Appendf(nil, `{"v":%d}`, assertionVersion)

func badAssertion(what string) error { return oauth.InvalidClient("the client assertion " + what) }

// assertionClaims are the claims that are looked at (section 3).
type assertionClaims struct {
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub"`
	Audience  audience `json:"aud"`
	ID        string   `json:"jti"`
	Expires   *float64 `json:"exp"` // NumericDate may have a fraction
	NotBefore *float64 `json:"nbf"`
	IssuedAt  *float64 `json:"iat"`
}

// audience is one value, or a list of one: an assertion that is for several
// servers could be used by one of them at another.
type audience string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = audience(one)
		return nil
	}
	var many []string
	if err := json.Unmarshal(data, &many); err != nil || len(many) != 1 {
		return errors.New("aud is not one audience")
	}
	*a = audience(many[0])
	return nil
}

// Assertion is a client assertion of the right shape. Nothing in it is known to
// be true before Authenticate has checked it.
type Assertion struct {
	signed *jose.JSONWebSignature
	claims assertionClaims
}

// ParseAssertion reads a client assertion. Errors are *oauth.Error.
func ParseAssertion(raw string) (*Assertion, error) {
	// Nothing large or odd gets as far as a parser.
	if len(raw) > maxAssertionLength {
		return nil, badAssertion("is too long")
	}
	if strings.Count(raw, ".") != 2 || strings.Trim(raw, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
		return nil, badAssertion("is not a signed JWT")
	}
	signed, err := jose.ParseSignedCompact(raw, assertionAlgorithms)
	if err != nil || len(signed.Signatures) != 1 {
		return nil, badAssertion("is not a JWT signed with one of " + strings.Join(AssertionAlgorithms(), ", "))
	}
	// A token for something else is no authentication, even if a key of the
	// client has signed it (RFC 8725 section 3.11).
	if typ, present := signed.Signatures[0].Protected.ExtraHeaders[jose.HeaderType]; present {
		name, _ := typ.(string)
		if !strings.EqualFold(name, "JWT") && !strings.EqualFold(name, "client-authentication+jwt") {
			return nil, badAssertion("has the typ of another kind of token")
		}
	}
	a := &Assertion{signed: signed}
	payload := signed.UnsafePayloadWithoutVerification()
	if !bytes.HasPrefix(payload, []byte("{")) || json.Unmarshal(payload, &a.claims) != nil {
		return nil, badAssertion("has claims of the wrong type, or is for more than one audience")
	}
	return a, nil
}

// Subject names the client that the assertion claims to be of.
func (a *Assertion) Subject() string { return a.claims.Subject }

// Authenticate checks that the client has made the assertion for one of the
// audiences, and that it has not been used before. It uses the assertion up.
// Errors that are no *oauth.Error mean that the store, or the place of the keys,
// could not be reached.
func (d *Directory) Authenticate(ctx context.Context, c *Client, a *Assertion, audiences []string) error {
	now := time.Now()
	if err := a.check(c.ID, audiences, now); err != nil {
		return err
	}
	if err := d.checkSignature(ctx, c, a); err != nil {
		return err
	}
	// Section 3: each jti once. The mark lives until the assertion is too old
	// for every node.
	expires := time.Unix(int64(math.Ceil(*a.claims.Expires)), 0).Add(2 * assertionSkew)
	used := false
	err := d.store.Update(ctx, d.assertions+keyText(c.ID, a.claims.ID), func(r store.Record) (store.Record, error) {
		if used = r.Exists(); used {
			return r, errUsed
		}
		return store.Record{Value: usedMark, Expires: expires}, nil
	})
	if used || errors.Is(err, errUsed) {
		return badAssertion("has been used before; make a new one for each request")
	}
	return err
}

// errUsed ends an update without a change.
var errUsed = errors.New("used before")

// check checks the claims (section 3).
func (a *Assertion) check(clientID string, audiences []string, now time.Time) error {
	c := &a.claims
	seconds := float64(now.UnixNano()) / float64(time.Second)
	skew := assertionSkew.Seconds()
	switch {
	case c.Issuer != clientID || c.Subject != clientID:
		return badAssertion("has an iss or a sub that is not the client_id")
	case !slices.Contains(audiences, string(c.Audience)):
		return badAssertion("is for another audience; use the issuer of this server")
	case c.Expires == nil:
		return badAssertion("has no exp")
	case *c.Expires+skew <= seconds:
		return badAssertion("has expired")
	case *c.Expires > seconds+assertionLifetime.Seconds()+skew:
		return badAssertion("is good for more than an hour; set exp to some minutes from now")
	case c.NotBefore != nil && *c.NotBefore > seconds+skew:
		return badAssertion("is not good yet; check the clock")
	case c.IssuedAt != nil && *c.IssuedAt > seconds+skew:
		return badAssertion("was made in the future; check the clock")
	case c.ID == "":
		return badAssertion("has no jti")
	case len(c.ID) > maxAssertionID:
		return badAssertion("has a jti that is too long")
	}
	return nil
}

// checkSignature looks for the key among those of the client. Headers that bring
// a key along, or say where one is (jwk, jku, x5c, x5u), are never followed.
func (d *Directory) checkSignature(ctx context.Context, c *Client, a *Assertion) error {
	header := a.signed.Signatures[0].Protected
	for _, renew := range []bool{false, true} {
		keys, err := d.keysOf(ctx, c, renew)
		if err != nil {
			return err
		}
		fitting := keys.fit(header)
		for _, key := range fitting {
			if _, err := a.signed.Verify(key.Key); err == nil {
				return nil
			}
		}
		// A key that is not known may be new; a signature that is wrong stays so.
		if c.JWKSURI == "" || header.KeyID != "" && len(fitting) > 0 {
			break
		}
	}
	return badAssertion("has no valid signature by a key of this client")
}

// AssertionVersion is the schema version of the marks of used assertions.
const AssertionVersion = assertionVersion

// CheckAssertion returns an error for a mark of a used assertion that this package
// could not have written at a key, of which name is what follows "assertion/".
func CheckAssertion(name string, value []byte) error {
	if len(name) != keyTextLength || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" {
		return errors.New("the key is not that of an assertion")
	}
	if !bytes.Equal(value, usedMark) {
		return errors.New("stored assertion cannot be read")
	}
	return nil
}
