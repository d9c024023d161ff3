package grant

import (
	"context"
	"crypto/subtle"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// Renewal is a refresh token on its way to become new tokens.
type Renewal struct {
	Token    string
	ClientID string
	Resource string       // "" for the one of the grant
	Scope    oauth.Scopes // what the next access token shall have; empty for all of the grant

	// Accept has the last word, before anything is changed. It may be nil.
	Accept func(*Grant) error
}

// Narrowed are the scopes that a request for some of them gets: never more than
// the grant has (RFC 6749 section 6).
func (g *Grant) Narrowed(requested oauth.Scopes) oauth.Scopes {
	if len(requested) == 0 {
		return g.Scopes
	}
	return requested.Narrow(g.Scopes)
}

// Refresh rotates a refresh token (OAuth 2.1 section 4.3). The previous token
// gets the same successor during the grace window; after it, and for every
// older token, the grant is revoked.
func (s *Service) Refresh(ctx context.Context, r Renewal) (*Grant, string, error) {
	h, ok := s.codec.decode(kindRefresh, r.Token)
	if !ok {
		return nil, "", errBadRefresh
	}
	next := s.codec.successor(h)
	g, err := s.change(ctx, s.key(h), errBadRefresh, func(g *Grant, now time.Time) error {
		if g.ClientID != r.ClientID || !g.Code.Used {
			return errBadRefresh
		}
		if !g.Revoked.IsZero() {
			return errRevoked
		}
		if r.Resource != "" && r.Resource != g.Resource {
			return oauth.InvalidTarget("resource is not the one that was granted")
		}
		if len(g.Narrowed(r.Scope)) == 0 {
			return oauth.InvalidScope("scope has nothing that was granted")
		}
		if !now.Before(g.Expires) {
			return errBadRefresh
		}
		if err := g.accepted(r.Accept); err != nil {
			return err
		}
		return g.rotate(h, next, now, s.cfg)
	})
	if err != nil {
		return nil, "", err
	}
	return g, s.codec.encode(next), nil
}

// rotate moves the grant to its next refresh token, or decides what an earlier
// one means.
func (g *Grant) rotate(h, next handle, now time.Time, cfg Config) error {
	switch {
	case h.generation == g.Refresh.Generation:
		if subtle.ConstantTimeCompare(h.hash(), g.Refresh.Hash) != 1 {
			return errBadRefresh
		}
		if g.takeStepUp(now) {
			return errStepUp
		}
		g.Refresh = refreshState{
			Generation: next.generation, Hash: next.hash(), Previous: g.Refresh.Hash, Rotated: now,
		}
	case h.generation > g.Refresh.Generation:
		// A token of a write that the store has lost. It is no sign of theft.
		return errBadRefresh
	case h.generation+1 == g.Refresh.Generation &&
		subtle.ConstantTimeCompare(h.hash(), g.Refresh.Previous) == 1 &&
		now.Sub(g.Refresh.Rotated) <= cfg.RefreshGrace:
		if g.takeStepUp(now) {
			return errStepUp
		}
	default:
		g.Revoked = now
		return errReused
	}
	g.LastUsed = now
	g.Expires = now.Add(cfg.RefreshLifetime)
	return nil
}
