package token

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/bounded"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// Reasons to refuse an access token. They are for logs and metrics; the client
// is told invalid_token for each of them.
var (
	ErrMalformed = errors.New("not an access token of this server")
	ErrExpired   = errors.New("access token has expired")
	ErrRevoked   = errors.New("access token has been revoked")
	ErrAudience  = errors.New("the token is for another resource")
)

// ErrUnavailable says that a token names a key which this node does not know and
// that the store could not be asked for it. It is no refusal: the client is told
// to try again, or it would throw a good token away.
var ErrUnavailable = errors.New("the keys of access tokens cannot be read")

// CacheEntries is how many verified tokens can be in use at once without being
// verified anew. At most twice as many are remembered.
const CacheEntries = 65536

// clockSkew is how far in the future a token may have been issued, for nodes
// whose clocks differ.
const clockSkew = time.Minute

// Claims are the verified claims of an access token. They are shared between
// requests, so nobody changes them.
type Claims struct {
	oauth.AccessTokenClaims

	// Scopes is the parsed form of Scope.
	Scopes oauth.Scopes

	// Prepared is room for what the edge derives from the claims once and uses
	// for each request.
	Prepared any
}

// Verifier checks the access tokens of one issuer. It uses neither the store nor
// the network, but for a look at the store when a token names an unknown key.
type Verifier struct {
	issuer  string
	keys    *Keys
	revoked *Revocations
	cache   *bounded.Cache
	dropped atomic.Uint64 // keys that had been taken away when the cache was emptied
	prepare func(*Claims)
}

// NewVerifier returns a verifier. prepare, when not nil, runs once for each
// newly verified token.
func NewVerifier(issuer string, keys *Keys, revoked *Revocations, prepare func(*Claims)) *Verifier {
	return &Verifier{issuer: issuer, keys: keys, revoked: revoked, cache: bounded.NewCache(CacheEntries), prepare: prepare}
}

// Verify returns the claims of a token that is well-formed, signed by one of the
// issuer's keys, not expired and not revoked; otherwise ErrMalformed, ErrExpired,
// ErrRevoked or ErrUnavailable. With ErrRevoked the claims come along all the
// same, for revoking again what could not be revoked completely. The audience is
// left to the caller, who knows which resource was asked for.
func (v *Verifier) Verify(ctx context.Context, raw string) (*Claims, error) {
	// The key of the cache is the whole token. A map finds it by a hash that is
	// keyed at random and compares all of it, which is as strict as a
	// cryptographic digest of the token would be and takes a fifth of the time.
	var token *verified
	dropped := v.forget()
	if cached, ok := v.cache.Get(raw); ok {
		token = cached.(*verified)
	} else {
		var err error
		if token, err = v.verify(ctx, raw); err != nil {
			return nil, err
		}
		// The presented string may be a piece of the whole header; the cache
		// holds on to the token alone.
		v.cache.Set(strings.Clone(raw), token, time.Until(time.Unix(token.claims.Expires, 0)))
		if v.keys.dropped.Load() != dropped {
			// Its key may have been taken away since it was verified.
			v.cache.Clear()
		}
	}
	claims := &token.claims
	if time.Now().Unix() >= claims.Expires {
		return nil, ErrExpired
	}
	if v.revoked.Refuses(claims.GrantID, claims.IssuedAt) || token.clientRemoved(v.revoked) {
		return claims, ErrRevoked
	}
	return claims, nil
}

// VerifyFor is Verify for a resource that goes by the audiences. A token for
// another one is ErrAudience.
func (v *Verifier) VerifyFor(ctx context.Context, raw string, audiences []string) (*Claims, error) {
	claims, err := v.Verify(ctx, raw)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(audiences, claims.Audience) {
		return nil, ErrAudience
	}
	return claims, nil
}

// forget empties the cache when a key has been taken away, whose tokens must not
// be taken for good any more. It returns how many have been.
func (v *Verifier) forget() uint64 {
	now := v.keys.dropped.Load()
	if before := v.dropped.Load(); before != now && v.dropped.CompareAndSwap(before, now) {
		v.cache.Clear()
	}
	return now
}

// Revoked reports whether a token that was good has been revoked since, with its
// grant or with its client.
func (v *Verifier) Revoked(c *Claims) bool {
	return v.revoked.Has(c.GrantID) || v.revoked.RefusesClient(c.ClientID, c.IssuedAt)
}

func (v *Verifier) verify(ctx context.Context, raw string) (*verified, error) {
	// The size, the dots and the alphabet are checked before anything parses
	// the token.
	if len(raw) > oauth.MaxTokenLength || !isCompact(raw) {
		return nil, ErrMalformed
	}
	signed, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil || len(signed.Signatures) != 1 {
		return nil, ErrMalformed
	}
	header := signed.Signatures[0].Protected
	// Keys come from the store only: jwk, jku, x5u and x5c headers are never
	// followed, and typ keeps other kinds of JWT out (RFC 9068 section 4).
	if typ, _ := header.ExtraHeaders[jose.HeaderType].(string); !strings.EqualFold(typ, oauth.AccessTokenType) {
		return nil, ErrMalformed
	}
	key, err := v.keys.public(ctx, header.KeyID)
	if err != nil {
		return nil, err
	}
	payload, err := signed.Verify(key)
	if err != nil {
		return nil, ErrMalformed
	}
	token := &verified{}
	claims := &token.claims
	if err := json.Unmarshal(payload, &claims.AccessTokenClaims); err != nil {
		return nil, ErrMalformed
	}
	now := time.Now()
	if claims.Issuer != v.issuer || claims.Audience == "" || claims.GrantID == "" ||
		time.Unix(claims.IssuedAt, 0).After(now.Add(clockSkew)) {
		return nil, ErrMalformed
	}
	if now.Unix() >= claims.Expires {
		return nil, ErrExpired
	}
	claims.Scopes = oauth.ParseScope(claims.Scope)
	if v.prepare != nil {
		v.prepare(claims)
	}
	return token, nil
}

// isCompact reports whether raw is three parts of base64url. The decoder would
// skip line breaks, so that one token had any number of spellings, each with an
// entry in the cache.
func isCompact(raw string) bool {
	dots := 0
	for i := range len(raw) {
		switch c := raw[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		case c == '.':
			dots++
		default:
			return false
		}
	}
	return dots == 2
}
