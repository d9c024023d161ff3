// This file implements draft-ietf-oauth-identity-assertion-authz-grant (Identity
// Assertion JWT Authorization Grant): its names.

package oauth

const (
	// GrantJWTBearer is the grant type of assertions (RFC 7523 section 2.1).
	GrantJWTBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"

	// IdentityAssertionType is the "typ" of the header of an assertion by which a
	// provider vouches for a person and a client at once (section 3).
	IdentityAssertionType = "oauth-id-jag+jwt"

	// GrantProfileIdentityAssertion says in metadata that such assertions are
	// accepted (section 7.2).
	GrantProfileIdentityAssertion = "urn:ietf:params:oauth:grant-profile:id-jag"
)
