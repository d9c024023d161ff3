// This file implements what RFC 7521 and RFC 7523 section 3 ask of every assertion,
// whether a client proves itself with it or gets tokens for it.

// Package assertion reads JWTs that assert something once, and checks what all
// of them have in common.
package assertion

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Algorithms are those that assertions may be signed with: asymmetric ones only,
// and never "none".
var Algorithms = []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.PS256, jose.RS256, jose.EdDSA}

// AlgorithmNames names the algorithms for metadata.
func AlgorithmNames() []string {
	var out []string
	for _, alg := range Algorithms {
		out = append(out, string(alg))
	}
	return out
}

// Bounds of an assertion.
const (
	maxLength = 8 << 10
	maxID     = 512
	skew      = time.Minute

	// Lifetime is how long an assertion may be good, from now on at most.
	Lifetime = time.Hour
)

// Refusal says what is wrong with an assertion. Its text goes on from "the
// assertion", and never repeats what is in it.
type Refusal string

// Error implements error.
func (r Refusal) Error() string { return string(r) }

// Assertion is an assertion of the right shape. Nothing in it is known to be true
// before its signature has been checked.
type Assertion struct {
	Signed *jose.JSONWebSignature

	Issuer    string
	Subject   string
	Audience  Audience
	ID        string
	Expires   *float64 // NumericDate may have a fraction
	NotBefore *float64
	IssuedAt  *float64

	claims map[string]json.RawMessage
}

// Audience is one value, or a list of one: an assertion that is for several
// servers could be used by one of them at another.
type Audience string

// UnmarshalJSON implements json.Unmarshaler.
func (a *Audience) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = Audience(one)
		return nil
	}
	var many []string
	if err := json.Unmarshal(data, &many); err != nil || len(many) != 1 {
		return errors.New("aud is not one audience")
	}
	*a = Audience(many[0])
	return nil
}

// Parse reads an assertion whose header has one of the types, in lower case; ""
// stands for none. Errors are Refusals.
func Parse(raw string, types ...string) (*Assertion, error) {
	// Nothing large or odd gets as far as a parser.
	if len(raw) > maxLength {
		return nil, Refusal("is too long")
	}
	if strings.Count(raw, ".") != 2 || strings.Trim(raw, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
		return nil, Refusal("is not a signed JWT")
	}
	signed, err := jose.ParseSignedCompact(raw, Algorithms)
	if err != nil || len(signed.Signatures) != 1 {
		return nil, Refusal("is not a JWT signed with one of " + strings.Join(AlgorithmNames(), ", "))
	}
	header := signed.Signatures[0].Protected.ExtraHeaders
	if _, critical := header["crit"]; critical {
		return nil, Refusal("demands extensions (crit)")
	}
	// A token for something else asserts nothing here, even if the right key has
	// signed it (RFC 8725 section 3.11).
	typ, present := header[jose.HeaderType]
	name, isText := typ.(string)
	if present && (!isText || name == "") || !slices.Contains(types, strings.ToLower(name)) {
		return nil, Refusal("has the typ of another kind of token")
	}
	return read(signed)
}

// read reads the claims by their exact names, as encoding/json would take those
// in any case for the same.
func read(signed *jose.JSONWebSignature) (*Assertion, error) {
	a := &Assertion{Signed: signed}
	payload := signed.UnsafePayloadWithoutVerification()
	if !bytes.HasPrefix(payload, []byte("{")) || json.Unmarshal(payload, &a.claims) != nil {
		return nil, Refusal("has no claims")
	}
	for name, to := range map[string]any{
		"iss": &a.Issuer, "sub": &a.Subject, "aud": &a.Audience, "jti": &a.ID,
		"exp": &a.Expires, "nbf": &a.NotBefore, "iat": &a.IssuedAt,
	} {
		if a.Claim(name, to) != nil {
			return nil, Refusal("has claims of the wrong type, or is for more than one audience")
		}
	}
	return a, nil
}

// Claim reads a further claim, if it is there. The error says that it has another
// type.
func (a *Assertion) Claim(name string, to any) error {
	raw, there := a.claims[name]
	if !there {
		return nil
	}
	return json.Unmarshal(raw, to)
}

// Has reports whether a claim is there.
func (a *Assertion) Has(name string) bool { _, there := a.claims[name]; return there }

// Check checks for whom and when an assertion is good (RFC 7523 section 3).
// Errors are Refusals.
func (a *Assertion) Check(audiences []string, now time.Time) error {
	seconds := float64(now.UnixNano()) / float64(time.Second)
	leeway := skew.Seconds()
	switch {
	case !slices.Contains(audiences, string(a.Audience)) || a.Audience == "":
		return Refusal("is for another audience; use the issuer of this server")
	case a.Expires == nil:
		return Refusal("has no exp")
	case *a.Expires+leeway <= seconds:
		return Refusal("has expired")
	case *a.Expires > seconds+Lifetime.Seconds()+leeway:
		return Refusal("is good for more than an hour; set exp to some minutes from now")
	case a.NotBefore != nil && *a.NotBefore > seconds+leeway:
		return Refusal("is not good yet; check the clock")
	case a.IssuedAt != nil && *a.IssuedAt > seconds+leeway:
		return Refusal("was made in the future; check the clock")
	case a.ID == "":
		return Refusal("has no jti")
	case len(a.ID) > maxID:
		return Refusal("has a jti that is too long")
	}
	return nil
}

// Ends is when an assertion that was checked is too old for every node.
func (a *Assertion) Ends() time.Time {
	return time.Unix(int64(math.Ceil(*a.Expires)), 0).Add(2 * skew)
}
