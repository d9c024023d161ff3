// This file implements RFC 6750 (Bearer Token Usage): reading the Authorization
// header and writing the challenge.

package oauth

import (
	"errors"
	"net/http"
	"strings"
)

// TokenTypeBearer is the type of tokens that whoever has them can use (section
// 6.1.1).
const TokenTypeBearer = "Bearer"

// MaxTokenLength bounds a presented token in bytes.
const MaxTokenLength = 8 << 10

// ErrNoCredentials says that a request carries no bearer token at all, so the
// challenge has no error code (RFC 6750 section 3.1).
var ErrNoCredentials = errors.New("no bearer token")

// ErrMalformedCredentials says that a request carries an Authorization header
// that cannot be used: several fields, a list, or bytes that no token has.
var ErrMalformedCredentials = errors.New("malformed Authorization header")

// BearerToken returns the token of the Authorization header (section 2.1), or
// ErrNoCredentials, or ErrMalformedCredentials. No other place of a request is
// ever looked at.
func BearerToken(h http.Header) (string, error) {
	fields := h["Authorization"]
	switch len(fields) {
	case 0:
		return "", ErrNoCredentials
	case 1:
	default:
		return "", ErrMalformedCredentials
	}
	scheme, token, found := strings.Cut(fields[0], " ")
	if !strings.EqualFold(scheme, TokenTypeBearer) {
		return "", ErrNoCredentials
	}
	token = strings.Trim(token, " ")
	if !found || !validB64Token(token) {
		return "", ErrMalformedCredentials
	}
	return token, nil
}

// validB64Token checks the grammar of section 2.1: b64token.
func validB64Token(s string) bool {
	if s == "" || len(s) > MaxTokenLength {
		return false
	}
	body := strings.TrimRight(s, "=")
	if body == "" {
		return false
	}
	for i := range len(body) {
		if !isUnreserved(body[i]) && body[i] != '+' && body[i] != '/' {
			return false
		}
	}
	return true
}

// isUnreserved reports whether c is an unreserved character of RFC 3986
// section 2.3.
func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

// Challenge is the WWW-Authenticate header of a 401 or 403 answer (section 3).
// Empty fields are left out. A challenge without any has a realm instead, since
// the scheme never stands alone.
type Challenge struct {
	Error            string // section 3.1: invalid_token, insufficient_scope, …
	ErrorDescription string
	ResourceMetadata string // RFC 9728 section 5.1
	Scope            string // section 3
}

// String writes the challenge as one Bearer challenge whose parameters are
// quoted and separated by ", ": some clients split the header at the first
// space and find the parameters with regular expressions.
func (c Challenge) String() string {
	if c == (Challenge{}) {
		return `Bearer realm="mcp"`
	}
	var b strings.Builder
	b.WriteString("Bearer ")
	first := true
	for _, p := range [...]struct{ name, value string }{
		{"error", c.Error},
		{"error_description", c.ErrorDescription},
		{"resource_metadata", c.ResourceMetadata},
		{"scope", c.Scope},
	} {
		if p.value == "" {
			continue
		}
		if !first {
			b.WriteString(", ")
		}
		first = false
		b.WriteString(p.name)
		b.WriteString(`="`)
		writeQuotable(&b, p.value)
		b.WriteByte('"')
	}
	return b.String()
}

// writeQuotable leaves out what may not stand in the value of a parameter
// (section 3): quotes, backslashes and everything outside printable ASCII.
func writeQuotable(b *strings.Builder, s string) {
	for i := range len(s) {
		if c := s[i]; c >= ' ' && c <= '~' && c != '"' && c != '\\' {
			b.WriteByte(c)
		}
	}
}
