package authserver

import (
	"context"
	"errors"
	"strings"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/delegation"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

var (
	// ErrSignInAgain says that the caller has no token of the provider any more.
	// The grant and the sessions of the user have been ended, so that the client
	// asks for a new authorization, which leads to a sign-in at the provider.
	ErrSignInAgain = errors.New("the user has to sign in at the provider again")

	// ErrOtherSignIn says that the caller can have no token of the provider: it
	// is a program, or its user signs in in another way.
	ErrOtherSignIn = errors.New("the caller does not sign in at the provider")
)

// Lend returns the token of a provider for the bearer of a token. The error is
// ErrSignInAgain, ErrOtherSignIn, or a fault of the store or the provider.
func (s *Server) Lend(ctx context.Context, loginID string, c *token.Claims) (string, error) {
	provider := s.delegate(loginID)
	if provider == nil || s.cfg.Delegations == nil || c.Issuer != s.cfg.Issuer || !strings.HasPrefix(c.Subject, loginID+":") {
		return "", ErrOtherSignIn
	}
	if _, ok := grant.UserOf(c.GrantID); !ok {
		// A provider has vouched for the user, who may have been here as well, but
		// has never agreed that this client does anything at the upstream.
		return "", ErrOtherSignIn
	}
	access, err := s.cfg.Delegations.Token(ctx, s.grants.UserPart(c.Subject), delegation.Source{Provider: provider, Lifetime: s.cfg.RefreshLifetime})
	switch {
	case errors.Is(err, delegation.ErrNone):
		return "", s.requireSignIn(ctx, c)
	case err != nil:
		s.cfg.Log.Error("the token of a provider cannot be had", zap.String("login", loginID), zap.Error(err))
	}
	return access, err
}

// Doubt tells that an upstream has refused a token that was lent.
func (s *Server) Doubt(c *token.Claims, access string) {
	s.cfg.Delegations.Doubt(s.grants.UserPart(c.Subject), access)
}

func (s *Server) delegate(loginID string) login.Delegate {
	if l := s.redirectLogin(loginID); l != nil {
		if d, ok := l.Login.(login.Delegate); ok {
			return d
		}
	}
	return nil
}

// requireSignIn makes the user of a grant go to the provider. Ending the grant alone
// would not do, since a session would stand for a sign-in. The sessions go first: a
// client that finds its grant ended asks at once.
func (s *Server) requireSignIn(ctx context.Context, c *token.Claims) error {
	if _, err := s.sessions.endAll(ctx, c.Subject, ""); err != nil {
		return err
	}
	g, err := s.grants.RevokeFor(ctx, c.Subject, c.GrantID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return ErrSignInAgain // its last token outlives it
	case err != nil:
		return err
	case !g.Revoked.IsZero():
		return ErrSignInAgain // by another request of the client
	}
	s.cfg.Metrics.Revoked(metrics.ByProvider, 1)
	s.cfg.Audit.Write(ctx, audit.Event{
		Name: audit.GrantRevoke, By: audit.ByProvider, Reason: "the provider has ended its tokens of the user, who has to sign in again",
		User: c.Subject, ClientID: c.ClientID, Resource: c.Audience, GrantID: c.GrantID,
	})
	return ErrSignInAgain
}

// keepDelegated takes what a provider has given for somebody who signs in. Without
// an app that uses it, it is kept as long as the session.
func (s *Server) keepDelegated(ctx context.Context, user login.Identity) error {
	if user.Tokens == nil || s.cfg.Delegations == nil {
		return nil
	}
	if user.Tokens.Refresh == "" {
		s.cfg.Log.Warn("the provider gives no refresh token, so its users have to sign in whenever its access token ends; "+
			"add to the login, as the provider needs it: scopes openid profile email offline_access, and: prompt consent",
			zap.String("provider", user.Provider))
	}
	part, lifetime := s.grants.UserPart(user.Subject), s.cfg.SessionLifetime
	connected, err := s.grants.AnyAlive(ctx, part)
	if err != nil {
		return err
	}
	if connected {
		lifetime = s.cfg.RefreshLifetime
	}
	return s.cfg.Delegations.Keep(ctx, part, user, lifetime)
}

// endedGrant is called when the access tokens of a grant have been ended. What a
// provider has given for a user without any other grant is kept no longer than a
// session can be, as somebody may be connecting the next app with it.
func (s *Server) endedGrant(ctx context.Context, grantID string) error {
	user, ok := grant.UserOf(grantID)
	if s.cfg.Delegations == nil || !ok { // an id of a service account
		return nil
	}
	alive, err := s.grants.AnyAlive(ctx, user)
	if err != nil || alive {
		return err
	}
	return s.cfg.Delegations.Shorten(ctx, user, s.cfg.SessionLifetime)
}

// signedOut drops what a provider has given for a user who has neither a session
// nor a grant any more.
func (s *Server) signedOut(ctx context.Context, subject string) error {
	if s.cfg.Delegations == nil {
		return nil
	}
	user := s.grants.UserPart(subject)
	alive, err := s.grants.AnyAlive(ctx, user)
	if err == nil && !alive {
		alive, err = s.sessions.any(ctx, subject)
	}
	if err != nil || alive {
		return err
	}
	return s.cfg.Delegations.Forget(ctx, user)
}
