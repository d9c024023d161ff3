package authserver

import (
	"context"
	"crypto/rand"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// needClientID refuses a request that names no client.
func needClientID(context.Context, *Server, *params) (string, error) {
	return "", oauth.InvalidClient("client_id is missing")
}

// clientOfRefreshToken finds the client that a refresh token is bound to.
func clientOfRefreshToken(ctx context.Context, s *Server, p *params) (string, error) {
	presented := p.get("refresh_token")
	if presented == "" {
		return "", oauth.InvalidRequest("refresh_token is missing")
	}
	return s.grants.ClientOf(ctx, presented)
}

// stillGood refuses grants of users who are gone or have a new password, and of
// users and clients that have lost all the scopes, or all that the request asks for. It runs
// before the grant changes, so that a refused request uses nothing up.
func (s *Server) stillGood(ctx context.Context, c *client.Client, requested oauth.Scopes) func(*grant.Grant) error {
	return func(g *grant.Grant) error {
		user, ok := s.current(ctx, g.User)
		if !ok {
			return oauth.InvalidGrant("the user has to sign in again")
		}
		if len(s.permitted(user, c, g.Scopes)) == 0 {
			return oauth.InvalidGrant("user and client can no longer have what was granted")
		}
		if len(s.permitted(user, c, g.Narrowed(requested))) == 0 {
			return oauth.InvalidScope("user and client can no longer have the scope")
		}
		return nil
	}
}

// issueForCode redeems an authorization code (RFC 6749 section 4.1.3).
func issueForCode(ctx context.Context, s *Server, req *tokenRequest) (*issuance, error) {
	redemption := grant.Redemption{
		Code: req.get("code"), Verifier: req.get("code_verifier"), RedirectURI: req.get("redirect_uri"),
		ClientID: req.client.ID, Resource: req.resourceURL(), Accept: s.stillGood(ctx, req.client, nil),
	}
	switch {
	case req.err() != nil:
		return nil, req.err()
	case redemption.Code == "":
		return nil, oauth.InvalidRequest("code is missing")
	case redemption.Verifier == "":
		return nil, oauth.InvalidRequest("code_verifier is missing; this server requires PKCE")
	}
	s.knowGrant(ctx, redemption.Code)
	g, refresh, err := s.grants.Redeem(ctx, redemption)
	if err != nil {
		return nil, err
	}
	return &issuance{user: g.User, grantID: g.ID, resource: g.Resource, scopes: g.Scopes, refresh: refresh}, nil
}

// issueForRefreshToken rotates a refresh token (RFC 6749 section 6). The scope of
// the answer can be narrower than the grant's; the grant's stays as it is.
func issueForRefreshToken(ctx context.Context, s *Server, req *tokenRequest) (*issuance, error) {
	requested := oauth.ParseScope(req.scope)
	renewal := grant.Renewal{
		Token: req.get("refresh_token"), ClientID: req.client.ID, Resource: req.resourceURL(),
		Scope: requested, Accept: s.stillGood(ctx, req.client, requested),
	}
	switch {
	case req.err() != nil:
		return nil, req.err()
	case renewal.Token == "":
		return nil, oauth.InvalidRequest("refresh_token is missing")
	}
	s.knowGrant(ctx, renewal.Token)
	g, refresh, err := s.grants.Refresh(ctx, renewal)
	if err != nil {
		return nil, err
	}
	return &issuance{user: g.User, grantID: g.ID, resource: g.Resource, scopes: g.Narrowed(renewal.Scope), refresh: refresh}, nil
}

// issueForClient lets a confidential client act for itself (RFC 6749 section
// 4.4). There is no refresh token: the client can ask again.
func issueForClient(ctx context.Context, s *Server, req *tokenRequest) (*issuance, error) {
	if s.isUser(ctx, req.client.ID) {
		// The user may have come after a client that is in the store. The subject
		// of its tokens would be the user's (RFC 9068 section 5).
		return nil, oauth.UnauthorizedClient("this client has the name of a user; ask whoever runs this server to remove one of them")
	}
	target, scopes, err := s.wanted(req)
	if err != nil {
		return nil, err
	}
	return &issuance{grantID: rand.Text(), resource: target.URL(), scopes: scopes}, nil
}

// wanted are the resource and the scopes of a request that begins with nothing
// that a person has seen before.
func (s *Server) wanted(req *tokenRequest) (*oauth.Resource, oauth.Scopes, error) {
	target := req.resource
	if target == nil {
		target = s.cfg.Resources[0]
	}
	scopes := s.obtainable(login.Identity{}, req.client, s.grantable(req.scope, target, req.client), target)
	if len(scopes) == 0 {
		return nil, nil, oauth.InvalidScope("this client can have none of the scopes of this server")
	}
	return target, scopes, nil
}
