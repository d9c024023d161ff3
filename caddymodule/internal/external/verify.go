package external

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/bounded"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/jwks"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/outbound"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// Server is an authorization server of somebody else.
type Server struct {
	// Issuer is its identifier, byte by byte as it stands in iss.
	Issuer string

	// Audience are values of which the aud of a token has to hold one. Without
	// any it has to hold the address of the resource.
	Audience []string

	// JWKSURI is where the keys are; "" to look into the issuer's metadata.
	JWKSURI string

	// Introspection is where opaque tokens are asked about; nil for nowhere. At
	// most one server has it: a token is shown to nobody but its issuer.
	Introspection *Introspection
}

// Directory knows the keys of issuers. It belongs to the state that outlives
// reloads of the configuration, so that an outage of an issuer does not become
// one of ours by a reload. It is safe for concurrent use.
type Directory struct {
	fetcher *outbound.Fetcher
	log     *zap.Logger

	mu   sync.Mutex
	keys map[string]*jwks.Cache
}

// NewDirectory returns an empty directory.
func NewDirectory(log *zap.Logger) *Directory {
	return &Directory{fetcher: outbound.New(), log: log, keys: map[string]*jwks.Cache{}}
}

// of returns the keys of an issuer.
func (d *Directory) of(s Server) *jwks.Cache {
	d.mu.Lock()
	defer d.mu.Unlock()
	id := s.Issuer + " " + s.JWKSURI
	if d.keys[id] == nil {
		from := &place{issuer: s.Issuer, jwksURI: s.JWKSURI, fetcher: d.fetcher}
		d.keys[id] = jwks.NewCache(s.Issuer, from.fetch, d.log)
	}
	return d.keys[id]
}

// Verifier checks the access tokens of other authorization servers. It takes the
// place of a token.Verifier.
type Verifier struct {
	servers map[string]*server
	opaque  *introspector // nil without introspection
	cache   *bounded.Cache
	prepare func(*token.Claims)
}

// server is an authorization server with what checking its tokens needs.
type server struct {
	Server
	keys *jwks.Cache
}

// verified is a token that is known to be good as long as its key is.
type verified struct {
	claims     *token.Claims
	server     *server
	audience   []string
	generation uint64
}

// New returns a verifier for the tokens of the servers. prepare, when not nil,
// runs once for each newly verified token.
func New(d *Directory, servers []Server, prepare func(*token.Claims)) *Verifier {
	v := &Verifier{servers: map[string]*server{}, cache: bounded.NewCache(token.CacheEntries), prepare: prepare}
	if v.prepare == nil {
		v.prepare = func(*token.Claims) {}
	}
	for _, s := range servers {
		v.servers[s.Issuer] = &server{Server: s, keys: d.of(s)}
		if s.Introspection != nil {
			v.opaque = newIntrospector(s, d.log)
		}
	}
	return v
}

// malformed is a refusal with the reason, for the log.
func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", token.ErrMalformed, fmt.Sprintf(format, args...))
}

// unavailable is the error for a token that nobody can tell the worth of.
func unavailable(err error) error { return fmt.Errorf("%w: %w", token.ErrUnavailable, err) }

// VerifyFor returns the claims of a token that is well-formed, signed by a key of
// one of the issuers, not expired and made for one of the audiences: those of the
// configuration, or else the given ones, which are the addresses of the resource.
// Otherwise the error is token.ErrMalformed, token.ErrExpired, token.ErrAudience
// or, when nobody can tell at the moment, token.ErrUnavailable.
func (v *Verifier) VerifyFor(ctx context.Context, raw string, audiences []string) (*token.Claims, error) {
	now := time.Now()
	good, err := v.known(raw, now)
	if good == nil && err == nil {
		good, err = v.check(ctx, raw, now)
	}
	if err != nil {
		return nil, err
	}
	if !good.isFor(audiences) {
		return nil, token.ErrAudience
	}
	return good.claims, nil
}

// Revoked implements the gate's view of a verifier: nobody tells us of
// revocations elsewhere.
func (*Verifier) Revoked(*token.Claims) bool { return false }

// known returns a token that was verified before and is still good, or nil.
func (v *Verifier) known(raw string, now time.Time) (*verified, error) {
	found, ok := v.cache.Get(raw)
	if !ok {
		return nil, nil
	}
	good := found.(*verified)
	if now.Unix() >= good.claims.Expires {
		return nil, token.ErrExpired
	}
	if generation, ok := good.server.keys.Generation(now); !ok || generation != good.generation {
		return nil, nil
	}
	return good, nil
}

// check verifies a token that is not known.
func (v *Verifier) check(ctx context.Context, raw string, now time.Time) (*verified, error) {
	// The size, the dots and the alphabet are checked before anything parses
	// the token.
	if len(raw) > oauth.MaxTokenLength {
		return nil, malformed("it is too long")
	}
	if strings.Count(raw, ".") != 2 {
		return v.ask(ctx, raw)
	}
	if !isCompact(raw) {
		return nil, malformed("it has characters that no JWT has")
	}
	good, err := v.checkJWT(ctx, raw, now)
	if err != nil {
		return nil, err
	}
	v.prepare(good.claims)
	// The presented string may be a piece of the whole header; the cache holds
	// on to the token alone.
	v.cache.Set(strings.Clone(raw), good, time.Until(time.Unix(good.claims.Expires, 0)))
	return good, nil
}

// ask asks the issuer about an opaque token.
func (v *Verifier) ask(ctx context.Context, raw string) (*verified, error) {
	if v.opaque == nil {
		return nil, malformed("it is no JWT, and no introspection is configured")
	}
	return v.opaque.ask(ctx, raw, v.prepare)
}

// isFor reports whether the token was made for this server.
func (g *verified) isFor(audiences []string) bool {
	if len(g.server.Audience) > 0 {
		audiences = g.server.Audience
	}
	return slices.ContainsFunc(g.audience, func(aud string) bool { return slices.Contains(audiences, aud) })
}

// isCompact reports whether raw consists of dots and base64url. The decoder would
// skip line breaks, so that one token had any number of spellings.
func isCompact(raw string) bool {
	for i := range len(raw) {
		switch c := raw[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}
