package authserver

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver/pages"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/bounded"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/delegation"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/factor"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/limit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// Config of an authorization server.
type Config struct {
	// Issuer is the issuer identifier: an origin without a trailing slash.
	// Every URL that the server writes starts with it.
	Issuer string

	// Name is what people call the server behind the issuer.
	Name string

	// Resources are those that tokens can be asked for, the default first.
	// There is at least one.
	Resources []*oauth.Resource

	// Scopes describes every scope.
	Scopes []Scope

	// Lifetimes; all of them are positive.
	AccessLifetime  time.Duration
	RefreshLifetime time.Duration
	RefreshGrace    time.Duration
	CodeLifetime    time.Duration
	SessionLifetime time.Duration
	ClientLifetime  time.Duration

	// LoginMax is how many failed sign-ins an account or an address may have
	// within LoginWindow; 0 switches the limit off.
	LoginMax    int
	LoginWindow time.Duration

	// RegisterMax is how many clients an address may register within
	// RegisterWindow; 0 switches the limit off.
	RegisterMax    int
	RegisterWindow time.Duration

	// TokenMax is how many token requests a grant, or a client at an address,
	// may make within TokenWindow; 0 switches the limit off.
	TokenMax    int
	TokenWindow time.Duration

	// Password signs in local users; nil when there are none.
	Password login.Password

	// RequireFactor lets nobody in by a password alone.
	RequireFactor bool

	// Redirects sign people in at providers, in the order of their buttons.
	Redirects []Redirect

	// Asserters are those of the logins whose providers also say who somebody is
	// to programs, with which these get tokens. No two have the same issuer.
	Asserters []login.Asserter

	// Delegations keeps the tokens that providers give for people; nil when no
	// upstream needs them.
	Delegations *delegation.Keeper

	// Request signs in whom something in front of the server vouches for; nil
	// for nobody. It is asked at the authorization endpoint only.
	Request login.Request

	// Allow says who of all these may use the server; nil lets everyone in.
	Allow *policy.Allow

	// Clients of the configuration, and the policy for others.
	Clients      []*client.Client
	Registration client.HostPolicy
	Documents    client.DocumentPolicy

	// AlwaysAsk shows the consent page for every request. Otherwise a client that
	// is known gets again what its user has allowed it before.
	AlwaysAsk bool

	// OpenServiceAccounts lets everyone register clients of the
	// client_credentials grant. ProtectedRegistration lets nobody register any
	// client without an initial access token (RFC 7591 section 3).
	OpenServiceAccounts, ProtectedRegistration bool

	// InitialAccess says what an initial access token lets clients register as.
	InitialAccess func(token string) InitialAccess

	// PKCEPlain accepts the challenge method "plain".
	PKCEPlain bool

	// DeviceAuthorization lets devices without a browser in, if people can sign
	// in (RFC 8628).
	DeviceAuthorization bool

	// Static reports that static bearer tokens work as well, for the landing
	// page.
	Static bool

	// OAuth reports that tokens are issued here at all. Without it there are
	// only the landing page and the health check, for sites that another one
	// issues the tokens of, or that have static tokens only.
	OAuth bool

	// PublishKeys shows the public keys even where no tokens are issued, as other
	// things are signed with them.
	PublishKeys bool

	// SignIn reports that people can sign in. Without it the pages and the
	// grants of people are switched off.
	SignIn bool

	// LandingPage answers "/".
	LandingPage bool

	Accent, HelpURL string

	// ClientIP returns the address of the peer, behind trusted proxies as the
	// web server knows them.
	ClientIP func(*http.Request) string

	// Metrics count what the server does; nil for nobody.
	Metrics *metrics.Metrics

	// RequestID returns what tells a request from all others; nil for nothing.
	RequestID func(*http.Request) string

	// Audit is told what happens; nil for nobody.
	Audit *audit.Log

	Log *zap.Logger
}

// State is what an issuer keeps: the store and what is derived from it. It
// outlives reloads of the configuration.
type State struct {
	Store       store.Store
	Prefix      string // of all keys of the issuer
	Keys        *token.Keys
	Revocations *token.Revocations

	// Counts is what counts against limits; nil for nothing yet.
	Counts *limit.Counts

	// Registrations bounds what is kept of clients that nobody has used yet.
	Registrations *client.Budget

	// Web is what is known of clients' documents and keys on the web.
	Web *client.Web
}

// Server is an authorization server.
type Server struct {
	cfg      Config
	origin   *url.URL
	keys     *token.Keys
	verifier *token.Verifier
	revoker  accessRevoker
	grants   *grant.Service
	clients  *client.Directory
	sessions *sessions
	seal     *sealer
	cookies  cookieJar
	store    store.Store
	signIns  string          // prefix of the marks of finished sign-ins at providers
	external []login.Method  // the logins whose users are elsewhere
	factors  *factor.Service // nil without local users
	limits
	stepUps  *bounded.Cache // calls that were noted a moment ago
	pages    *pages.Renderer
	routes   map[string]http.HandlerFunc
	metadata []byte
}

// New returns a server on top of the issuer's state. Its errors name the setting
// that is wrong.
func New(cfg Config, st State, verifier *token.Verifier) (*Server, error) {
	origin, err := url.Parse(cfg.Issuer)
	if err != nil {
		return nil, err
	}
	cfg.DeviceAuthorization = cfg.DeviceAuthorization && cfg.SignIn && cfg.OAuth
	s := &Server{cfg: cfg, origin: origin, keys: st.Keys, verifier: verifier}
	s.revoker = accessRevoker{st.Revocations, cfg.AccessLifetime, s.endedGrant}
	s.grants = grant.NewService(st.Store, st.Prefix, st.Keys.Derive, grant.Config{
		CodeLifetime: cfg.CodeLifetime, RefreshLifetime: cfg.RefreshLifetime, RefreshGrace: cfg.RefreshGrace,
	}, s.revoker)
	s.clients = client.NewDirectory(st.Store, st.Prefix, client.Config{
		Configured: cfg.Clients, Policy: cfg.Registration, ExpireAfter: cfg.ClientLifetime,
		Budget: st.Registrations, Trusted: !cfg.OpenServiceAccounts,
		Documents: cfg.Documents, Web: st.Web, Discovered: cfg.discovered, Log: cfg.Log,
	})
	s.sessions = &sessions{store: st.Store, prefix: st.Prefix + "session/", lifetime: cfg.SessionLifetime, key: st.Keys.Derive("session user")}
	s.seal = newSealer(st.Keys.Derive("authorization request"))
	s.cookies = cookieJar{secure: origin.Scheme == "https"}
	s.limits = newLimits(st.Counts, cfg)
	s.store, s.signIns, s.external = st.Store, st.Prefix+"signin/", s.methods()
	if s.factors, err = newFactors(cfg, st); err != nil {
		return nil, err
	}
	s.stepUps = bounded.NewCache(stepUpEntries)
	options := pages.Options{ServerName: cfg.Name, Host: origin.Host, Accent: cfg.Accent, HelpURL: cfg.HelpURL}
	if cfg.SignIn && cfg.OAuth {
		options.AccountPath = pathAccount
	}
	if s.pages, err = pages.New(options); err != nil {
		return nil, err
	}
	s.metadata = s.buildMetadata()
	s.routes = map[string]http.HandlerFunc{}
	for _, e := range s.endpoints() {
		s.routes[e.path] = s.guarded(e)
	}
	return s, nil
}

// accessRevoker ends the access tokens of a revoked grant.
type accessRevoker struct {
	revocations *token.Revocations
	lifetime    time.Duration
	ended       func(ctx context.Context, grantID string) error // is told afterwards
}

// Add implements grant.Revoker.
func (a accessRevoker) Add(ctx context.Context, grantID string) error {
	if err := a.revocations.Add(ctx, grantID, a.lifetime); err != nil {
		return err
	}
	return a.ended(ctx, grantID)
}

// endClient ends the access tokens that a client got up to a moment, or all that
// it can ever have.
func (a accessRevoker) endClient(ctx context.Context, clientID string, until time.Time) error {
	return a.revocations.AddClient(ctx, clientID, until, a.lifetime)
}

// Verifier checks the access tokens that the server issues.
func (s *Server) Verifier() *token.Verifier { return s.verifier }

// resource finds the resource that a request names (RFC 8707). No name means the
// default; the origin, a trailing slash and other spellings of the same URL are
// understood.
func (s *Server) resource(uri string) (*oauth.Resource, error) {
	if uri == "" {
		return s.cfg.Resources[0], nil
	}
	canonical, ok := oauth.CanonicalResource(uri)
	if !ok {
		return nil, oauth.InvalidTarget("resource is not an absolute URL of an MCP server")
	}
	for _, r := range s.cfg.Resources {
		if canonical == r.URL() {
			return r, nil
		}
	}
	for _, r := range s.cfg.Resources {
		if canonical == r.Origin {
			return r, nil
		}
	}
	return nil, oauth.InvalidTarget("resource is not one that this server protects")
}

// scopes are all scopes of the resource that the server knows.
func (s *Server) scopeNames() oauth.Scopes {
	out := make(oauth.Scopes, 0, len(s.cfg.Scopes))
	for _, sc := range s.cfg.Scopes {
		out = append(out, sc.Name)
	}
	return out
}

// directory is the login that knows its users, if there is one.
func (s *Server) directory() (login.Directory, bool) {
	d, ok := s.cfg.Password.(login.Directory)
	return d, ok
}

// current returns the identity of a user as it is now. It reports false for a
// user who is gone, whose credential has changed or who is not allowed in.
func (s *Server) current(ctx context.Context, id login.Identity) (login.Identity, bool) {
	now, ok := s.known(ctx, id)
	return now, ok && s.admits(now)
}

// wantsJSON reports whether the caller is a program that asks for JSON.
func wantsJSON(r *http.Request) bool {
	accept := r.Header.Get("Accept")
	return strings.Contains(accept, "application/json") && !strings.Contains(accept, "text/html")
}
