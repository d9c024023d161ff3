package apitoken

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// View is how one site sees the tokens of its issuer. It uses neither the store nor
// the network. It is safe for concurrent use.
type View struct {
	tokens  *Tokens
	all     oauth.Scopes
	prepare func(*token.Claims)
	seen    atomic.Pointer[sight]
}

// sight is one state of the tokens with the claims that they have at the site.
type sight struct {
	of     *set
	claims map[digest]*token.Claims
}

// View returns the view of a site. all are the scopes of a token that was made
// without any; prepare, when not nil, runs once for the claims of each token.
func (t *Tokens) View(all oauth.Scopes, prepare func(*token.Claims)) *View {
	return &View{tokens: t, all: all, prepare: prepare}
}

// Find returns the claims of a token that is good for requests to MCP servers. The
// claims are shared between requests, so nobody changes them. Their audience is
// the only resource that it is good for, or empty.
func (v *View) Find(presented string) (*token.Claims, bool) {
	claims, h := v.find(presented)
	if h == nil || h.RegistrationOnly {
		return nil, false
	}
	return claims, true
}

// FindInitial returns the claims of a token that lets clients register, as an
// initial access token (RFC 7591 section 3).
func (v *View) FindInitial(presented string) (*token.Claims, bool) {
	claims, h := v.find(presented)
	return claims, h != nil
}

// find looks a token up by its digest. How long that takes can tell no more than
// how much of a digest is right, from which nobody can guess a token.
func (v *View) find(presented string) (*token.Claims, *held) {
	if !looksLike(presented) {
		return nil, nil
	}
	sum := digestOf(presented)
	now := v.look()
	h, ok := now.of.byHash[sum]
	if !ok {
		return nil, nil
	}
	moment := time.Now()
	if h.expiredAt(moment) {
		return nil, nil
	}
	h.usedAt(moment)
	return now.claims[sum], h
}

// Revoked reports whether an id, as in the grant id of claims, is that of a token
// that is no more.
func (v *View) Revoked(id string) bool {
	if !strings.HasPrefix(id, idPrefix) {
		return false
	}
	h, ok := v.tokens.current.Load().byID[id]
	return !ok || h.expiredAt(time.Now())
}

// look returns what there is to see at the moment.
func (v *View) look() *sight {
	of := v.tokens.current.Load()
	if seen := v.seen.Load(); seen != nil && seen.of == of {
		return seen
	}
	now := &sight{of: of, claims: make(map[digest]*token.Claims, len(of.byHash))}
	for sum, h := range of.byHash {
		now.claims[sum] = v.claimsOf(h)
	}
	v.seen.Store(now)
	return now
}

func (v *View) claimsOf(h *held) *token.Claims {
	c := &token.Claims{Scopes: h.Scopes}
	if len(c.Scopes) == 0 {
		c.Scopes = v.all
	}
	c.Subject, c.ClientID = SubjectPrefix+h.name, SubjectPrefix+h.name
	c.Scope, c.Audience, c.GrantID = c.Scopes.String(), h.Resource, h.ID
	c.IssuedAt = h.Created.Unix()
	if !h.expires.IsZero() {
		c.Expires = h.expires.Unix()
	}
	if v.prepare != nil {
		v.prepare(c)
	}
	return c
}
