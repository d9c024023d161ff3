package authserver

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/respond"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// introspectionMethods are the ways in which clients authenticate where they ask
// about tokens. Public ones cannot.
var introspectionMethods = slices.DeleteFunc(slices.Clone(authMethods), func(m string) bool { return m == oauth.AuthNone })

// introspection reports whether some client may ask about tokens.
func (c *Config) introspection() bool {
	return slices.ContainsFunc(c.Clients, func(c *client.Client) bool { return len(c.Introspects) > 0 })
}

// serveIntrospect is the introspection endpoint (RFC 7662).
func (s *Server) serveIntrospect(w http.ResponseWriter, r *http.Request) {
	answer, err := s.introspect(w, r)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	respond.JSON(w, http.StatusOK, answer)
}

func (s *Server) introspect(w http.ResponseWriter, r *http.Request) (*oauth.Introspection, error) {
	p, err := formParams(w, r)
	if err != nil {
		return nil, err
	}
	presented := p.get("token")
	creds, err := readCredentials(r, p)
	if err != nil {
		return nil, err
	}
	c, err := s.authenticateClient(r, creds, func() (string, error) {
		return "", oauth.InvalidClient("client_id is missing")
	})
	if err != nil {
		return nil, err
	}
	if len(c.Introspects) == 0 || c.Public() {
		return nil, oauth.UnauthorizedClient("this client may not ask about tokens; the configuration has to say so")
	}
	if presented == "" {
		return nil, oauth.InvalidRequest("token is missing")
	}
	return s.tellAbout(r.Context(), presented, c.Introspects)
}

// tellAbout tells about an access token that is good for one of the audiences.
// Of every other token it says the same, so nobody learns from it what tokens
// there are (section 4).
func (s *Server) tellAbout(ctx context.Context, presented string, audiences []string) (*oauth.Introspection, error) {
	claims, err := s.verifier.VerifyFor(ctx, presented, audiences)
	switch {
	case errors.Is(err, token.ErrUnavailable):
		return nil, err
	case err != nil:
		return &oauth.Introspection{}, nil //nolint:nilerr // that is the answer
	}
	// This node may not have heard yet of what another one has revoked. Whoever
	// asks wants to know it now.
	revoked, err := s.revoker.revocations.Ask(ctx, claims)
	switch {
	case err != nil:
		return nil, err
	case revoked:
		return &oauth.Introspection{}, nil
	}
	answer := &oauth.Introspection{
		Active: true, Scope: claims.Scope, ClientID: claims.ClientID, TokenType: oauth.TokenTypeBearer,
		Expires: claims.Expires, IssuedAt: claims.IssuedAt, Subject: claims.Subject, Audience: claims.Audience,
		Issuer: claims.Issuer, ID: claims.ID,
	}
	if claims.Subject != claims.ClientID {
		// Not the name: people may choose any at their provider.
		answer.Username = cmp.Or(claims.Email, claims.Subject)
	}
	return answer, nil
}
