// This file implements RFC 9068 (JWT Profile for OAuth 2.0 Access Tokens).

package oauth

// AccessTokenType is the "typ" of the header of an access token (RFC 9068
// section 2.1). Tokens of any other type are refused.
const AccessTokenType = "at+jwt"

// AccessTokenClaims are the claims of an access token (section 2.2).
type AccessTokenClaims struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	Audience string `json:"aud"` // the resource, RFC 8707
	ClientID string `json:"client_id"`
	Scope    string `json:"scope"`
	Expires  int64  `json:"exp"` // seconds since 1970
	IssuedAt int64  `json:"iat"` // seconds since 1970
	ID       string `json:"jti"`

	// GrantID names the grant that the token came from. Revoking a grant ends
	// all its tokens.
	GrantID string `json:"grant_id"`

	// Who the user is, so that an upstream can be told without a look-up.
	Email  string   `json:"email,omitempty"`
	Name   string   `json:"name,omitempty"`
	Groups []string `json:"groups,omitempty"`
}
