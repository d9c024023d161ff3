// This file implements the authorization response of RFC 6749 section 4.1.2 with
// the issuer identification of RFC 9207.

package oauth

import (
	"net/url"
	"strings"
)

// AuthorizationResponse is what travels back to the client in the query of its
// redirect URI.
type AuthorizationResponse struct {
	Code             string
	Error            string
	ErrorDescription string
	State            string
	Issuer           string // RFC 9207 section 2
}

// URL adds the response to a redirect URI that has been validated. A query that
// the URI has of its own is kept byte for byte (RFC 6749 section 3.1.2).
func (a AuthorizationResponse) URL(redirectURI string) string {
	var b strings.Builder
	b.WriteString(redirectURI)
	sep := byte('?')
	if strings.Contains(redirectURI, "?") {
		sep = '&'
	}
	for _, p := range [...]struct{ name, value string }{
		{"code", a.Code},
		{"error", a.Error},
		{"error_description", a.ErrorDescription},
		{"state", a.State},
		{"iss", a.Issuer},
	} {
		if p.value == "" {
			continue
		}
		b.WriteByte(sep)
		sep = '&'
		b.WriteString(p.name)
		b.WriteByte('=')
		// Some clients read a "+" as it is, and all of them "%20" as a space.
		b.WriteString(strings.ReplaceAll(url.QueryEscape(p.value), "+", "%20"))
	}
	return b.String()
}
