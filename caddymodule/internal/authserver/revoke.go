package authserver

import (
	"context"
	"errors"
	"net/http"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// serveRevoke is the revocation endpoint (RFC 7009). The answer is the same
// whether the token existed or not, and a client can only revoke its own.
// Revoking either token of a grant ends the whole grant.
func (s *Server) serveRevoke(w http.ResponseWriter, r *http.Request) {
	if err := s.revoke(w, r); err != nil {
		s.refuse(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
}

func (s *Server) revoke(w http.ResponseWriter, r *http.Request) error {
	p, err := formParams(w, r)
	if err != nil {
		return err
	}
	presented := p.get("token")
	creds, err := readCredentials(r, p)
	if err != nil {
		return err
	}
	if presented == "" {
		return oauth.InvalidRequest("token is missing")
	}
	c, err := s.authenticateClient(r, creds, func() (string, error) {
		return "", oauth.InvalidClient("client_id is missing")
	})
	if err != nil {
		return err
	}
	// A failure of the store must not look like success (section 2.2.1).
	revoked, err := s.grants.RevokeRefreshToken(r.Context(), presented, c.ID)
	if err != nil {
		return err
	}
	if revoked {
		s.cfg.Metrics.Revoked(metrics.ByClient, 1)
		s.knowGrant(r.Context(), presented)
		s.knowOwner(r.Context())
		s.cfg.Audit.Write(r.Context(), audit.Event{Name: audit.GrantRevoke, By: audit.ByClient})
	}
	return s.revokeAccessToken(r.Context(), presented, c.ID)
}

// revokeAccessToken ends the grant of an access token of a client. Anything else
// that is presented is none of its business.
func (s *Server) revokeAccessToken(ctx context.Context, presented, clientID string) error {
	claims, err := s.verifier.Verify(ctx, presented)
	if errors.Is(err, token.ErrUnavailable) {
		return err
	}
	// A revocation that failed half-way is repeated by a client that got 503.
	again := errors.Is(err, token.ErrRevoked)
	if err != nil && !again || claims.ClientID != clientID {
		return nil
	}
	if err := s.grants.Revoke(ctx, claims.GrantID); err != nil {
		return err
	}
	// Tokens of the client_credentials grant have no record of their own.
	if err := s.revoker.Add(ctx, claims.GrantID); err != nil {
		return err
	}
	if !again {
		s.cfg.Metrics.Revoked(metrics.ByClient, 1)
		s.cfg.Audit.Write(ctx, audit.Event{
			Name: audit.GrantRevoke, By: audit.ByClient, User: claims.Subject, Resource: claims.Audience, GrantID: claims.GrantID,
		})
	}
	return nil
}
