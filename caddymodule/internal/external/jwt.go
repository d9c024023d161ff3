// This file implements JWT access tokens: RFC 9068 (JWT Profile for OAuth 2.0
// Access Tokens), and the older ones of issuers that call theirs just JWT.

package external

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/jwks"
)

// algorithms are those that a token may be signed with. The list is fixed and
// asymmetric: with an HMAC the public key would be the secret.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// types are the values of typ that an access token may have, in lower case. ID
// tokens often say JWT as well and are told by their claims.
var types = []string{"at+jwt", "application/at+jwt", "jwt", "application/jwt", ""}

// checkHeader returns the typ of a header, in lower case. Keys come from the
// issuer's set only: jwk, jku, x5u and x5c headers are never followed.
func checkHeader(header map[jose.HeaderKey]any) (typ string, err error) {
	typ, isText := header[jose.HeaderType].(string)
	typ = strings.ToLower(typ)
	_, critical := header["crit"]
	switch {
	case header[jose.HeaderType] != nil && !isText, !slices.Contains(types, typ):
		return "", malformed("its type is not that of an access token")
	case critical:
		return "", malformed("it demands extensions (crit)")
	}
	return typ, nil
}

// checkJWT verifies a token by the keys of the issuer that it names, and no
// others.
func (v *Verifier) checkJWT(ctx context.Context, raw string, now time.Time) (*verified, error) {
	signed, err := jose.ParseSignedCompact(raw, algorithms)
	if err != nil || len(signed.Signatures) != 1 {
		return nil, malformed("it is no JWT with one of the signature algorithms")
	}
	typ, err := checkHeader(signed.Signatures[0].Protected.ExtraHeaders)
	if err != nil {
		return nil, err
	}
	claims, err := parse(signed.UnsafePayloadWithoutVerification())
	if err != nil {
		return nil, err
	}
	from := v.servers[text(claims["iss"])]
	if from == nil {
		return nil, malformed("its issuer is not one of authorization_server")
	}
	// What can be seen without a signature is looked at first: a token that is
	// of no use makes nobody fetch keys.
	good := &verified{server: from}
	if good.audience, err = claims.audience(); err != nil {
		return nil, err
	}
	if err = claims.checkKind(strings.HasSuffix(typ, "at+jwt")); err != nil {
		return nil, err
	}
	expires, issued, err := claims.checkTimes(now, true)
	if err != nil {
		return nil, err
	}
	if good.claims, err = claims.claims(from.Issuer); err != nil {
		return nil, err
	}
	good.claims.Expires, good.claims.IssuedAt = expires, issued
	good.generation, err = from.keys.Verify(ctx, signed, now)
	switch {
	case errors.Is(err, jwks.ErrUnavailable):
		return nil, unavailable(err)
	case err != nil:
		return nil, malformed("%v", err)
	}
	return good, nil
}
