package authserver

import (
	"context"
	"net/http"
	"strings"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// audited is the request with a place for what becomes known about it, for the
// audit log.
func (s *Server) audited(r *http.Request) *http.Request {
	if s.cfg.Audit == nil {
		return r
	}
	from := audit.Source{IP: func() string { return s.cfg.ClientIP(r) }}
	if s.cfg.RequestID != nil {
		from.RequestID = func() string { return s.cfg.RequestID(r) }
	}
	return r.WithContext(audit.Begin(r.Context(), from))
}

// knowUser and knowClient note for the audit log who a request is from.
func knowUser(ctx context.Context, user login.Identity) {
	audit.Know(ctx, func(e *audit.Event) { e.User, e.Provider = user.Subject, user.Provider })
}

func knowClient(ctx context.Context, clientID, redirectURI string) {
	audit.Know(ctx, func(e *audit.Event) { e.ClientID, e.RedirectURI = clientID, redirectURI })
}

// knowGrant notes the grant that a code or a refresh token names.
func (s *Server) knowGrant(ctx context.Context, handle string) {
	audit.Know(ctx, func(e *audit.Event) { e.GrantID = s.grants.KeyOf(handle) })
}

// knowOwner notes whom the grant is of, also when it has ended. It is no request that
// fails when the store does.
func (s *Server) knowOwner(ctx context.Context) {
	audit.Know(ctx, func(e *audit.Event) {
		if g, err := s.grants.Get(ctx, e.GrantID); err == nil {
			e.User, e.Provider, e.Resource = g.User.Subject, g.User.Provider, g.Resource
		}
	})
}

// tellable returns a client id that nobody has found, if it can only be one. Who
// gets the parts of HTTP Basic wrong may send something else.
func tellable(clientID string) string {
	if client.NeverReturns(clientID) || oauth.LooksLikeDocument(clientID) {
		return clientID
	}
	return ""
}

// noScopeFits is the reason to refuse a user who could have none of the scopes.
const noScopeFits = "no line 'allow' of a scope fits the user"

// refusedEvents are the events that do not happen when a request to an endpoint of
// programs is refused.
var refusedEvents = map[string]audit.Name{
	pathToken: audit.TokenIssue, pathRevoke: audit.GrantRevoke, pathIntrospect: audit.TokenIntrospect,
	pathRegister: audit.ClientRegister, pathDeviceAuthorization: audit.DeviceStart,
}

// auditRefusal tells of a refusal by an endpoint of programs.
func (s *Server) auditRefusal(r *http.Request, refusal *oauth.Error, err error) {
	e := audit.Event{Name: refusedEvents[r.URL.Path], Outcome: audit.Refused, Reason: reasonOf(refusal)}
	switch {
	case refusal.Code == oauth.AuthorizationPending().Code || refusal.Code == oauth.SlowDown().Code:
		return // devices ask again and again, as they are told to
	case grant.Reused(err):
		e.Name, e.By = audit.TokenReuse, audit.ByServer
		s.knowOwner(r.Context())
	case strings.HasPrefix(r.URL.Path, belowRegister):
		e.Name = audit.ClientUpdate
	}
	s.cfg.Audit.Write(r.Context(), e)
}

// reasonOf is what was wrong, with what only logs may know.
func reasonOf(refusal *oauth.Error) string { return refusal.Error() }

// auditLogin tells of a sign-in that came to nothing. user is the subject, as far
// as there is such a user: people type passwords where their name belongs.
func (s *Server) auditLogin(ctx context.Context, user, provider, reason string) {
	s.cfg.Audit.Write(ctx, audit.Event{Name: audit.Login, Outcome: audit.Refused, User: user, Provider: provider, Reason: reason})
}

// auditRegistration tells of a registration as it is now.
func (s *Server) auditRegistration(ctx context.Context, name audit.Name, info *oauth.ClientInformation) {
	e := audit.Event{Name: name, By: audit.ByClient, ClientID: info.ClientID, GrantType: strings.Join(info.GrantTypes, " ")}
	if len(info.RedirectURIs) > 0 {
		e.RedirectURI = info.RedirectURIs[0]
	}
	s.cfg.Audit.Write(ctx, e)
}

// auditRevoked tells of a grant that was revoked, with so many others that stand
// for the same consent.
func (s *Server) auditRevoked(ctx context.Context, g *grant.Grant, by string, ended int) {
	s.cfg.Audit.Write(ctx, audit.Event{
		Name: audit.GrantRevoke, By: by, User: g.User.Subject, Provider: g.User.Provider, ClientID: g.ClientID, Resource: g.Resource,
		GrantID: g.ID, Count: ended,
	})
}

// auditAllowed tells that access was allowed, by whom, and which grant came of it.
func (s *Server) auditAllowed(r *http.Request, tx *transaction, scopes oauth.Scopes, code, by string) {
	s.cfg.Audit.Write(r.Context(), audit.Event{
		Name: audit.Authorization, By: by, ClientID: tx.ClientID, RedirectURI: tx.RedirectURI, Resource: tx.Resource,
		Scopes: scopes, GrantID: s.grants.KeyOf(code),
	})
}

// userNamed returns what was typed as a user name if there is such a user.
func (s *Server) userNamed(ctx context.Context, typed string) string {
	if s.isUser(ctx, typed) {
		return typed
	}
	return ""
}

// auditProof tells of a code that was not accepted, at a sign-in or for a change of
// the factor itself.
func (s *Server) auditProof(r *http.Request, user login.Identity, reason string) {
	e := audit.Event{Name: audit.Login, Outcome: audit.Refused, User: user.Subject, Provider: user.Provider, Reason: reason}
	if r.URL.Path == pathFactor {
		e.Name = audit.FactorChange
	}
	s.cfg.Audit.Write(r.Context(), e)
}

// auditFactor tells of a change of what a user proves more with than a password.
func (s *Server) auditFactor(r *http.Request, user login.Identity, what string) {
	s.cfg.Audit.Write(r.Context(), audit.Event{
		Name: audit.FactorChange, By: audit.ByUser, User: user.Subject, Provider: user.Provider, Reason: what,
	})
}

// auditAuthorization tells of an authorization request that came to nothing.
func (s *Server) auditAuthorization(ctx context.Context, by, reason string) {
	s.cfg.Audit.Write(ctx, audit.Event{Name: audit.Authorization, Outcome: audit.Refused, By: by, Reason: reason})
}
