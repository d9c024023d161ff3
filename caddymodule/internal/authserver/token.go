package authserver

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/respond"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// tokenRequest is a token request whose client has been authenticated and whose
// shared parameters have been checked.
type tokenRequest struct {
	*params
	client   *client.Client
	resource *oauth.Resource // nil when the request names none
	scope    string
}

// resourceURL is the audience that the request asks for, or "".
func (t *tokenRequest) resourceURL() string {
	if t.resource == nil {
		return ""
	}
	return t.resource.URL()
}

// issuance is what a grant type contributes to the answer.
type issuance struct {
	user     login.Identity // the zero Identity for a client that acts for itself
	grantID  string
	resource string
	scopes   oauth.Scopes
	refresh  string // "" for none
}

// grantType holds the parts of the token endpoint that only one grant type has.
// Everything that all of them share is in serveToken, so a new grant type cannot
// forget it.
type grantType struct {
	name string

	// confidential demands a client secret.
	confidential bool

	// credential is the parameter that names a grant, if one does; subject is whom
	// a request says that it is about.
	credential string
	subject    func(*params) string

	// offered says where there is such a grant type; nil for everywhere.
	offered func(*Config) bool

	// vouched is that of clientCredentials; nil for never.
	vouched func(ctx context.Context, s *Server, p *params, id string) (bool, error)

	// noRegistrations refuses clients that know of themselves only what they
	// have registered.
	noRegistrations bool

	// clientOf names the client of a request that names none.
	clientOf func(context.Context, *Server, *params) (string, error)

	issue func(context.Context, *Server, *tokenRequest) (*issuance, error)
}

var grantTypes = []grantType{
	{name: oauth.GrantAuthorizationCode, credential: "code", clientOf: needClientID, issue: issueForCode},
	{name: oauth.GrantRefreshToken, credential: "refresh_token", clientOf: clientOfRefreshToken, issue: issueForRefreshToken},
	{name: oauth.GrantClientCredentials, clientOf: needClientID, issue: issueForClient, confidential: true},
	{
		name: oauth.GrantDeviceCode, credential: paramDeviceCode, clientOf: needClientID, issue: issueForDevice,
		offered: func(cfg *Config) bool { return cfg.DeviceAuthorization },
		vouched: func(_ context.Context, s *Server, p *params, _ string) (bool, error) {
			return s.grants.IsDeviceCode(p.get(paramDeviceCode)), nil
		},
	},
	{
		name: oauth.GrantJWTBearer, clientOf: needClientID, issue: issueForAssertion, noRegistrations: true,
		offered: func(cfg *Config) bool { return len(cfg.Asserters) > 0 },
		vouched: vouchedByAssertion, subject: assertedSubject,
	},
}

// tokenResponse is the answer of RFC 6749 section 5.1. The scope is always there,
// since clients compare it with what they asked for.
type tokenResponse struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"` // seconds
	RefreshToken string `json:"refresh_token,omitempty"`
	Scope        string `json:"scope"`
}

// serveToken is the token endpoint (RFC 6749 section 3.2).
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	answer, kind, err := s.token(w, r)
	s.countToken(kind, err)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	w.Header().Set("Pragma", "no-cache")
	respond.JSON(w, http.StatusOK, answer)
}

// token answers a token request. It comes with its grant type, or nil when there
// is none.
func (s *Server) token(w http.ResponseWriter, r *http.Request) (*tokenResponse, *grantType, error) {
	p, err := formParams(w, r)
	if err != nil {
		return nil, nil, err
	}
	kind, err := s.findGrantType(p)
	if err != nil {
		return nil, nil, err
	}
	audit.Know(r.Context(), func(e *audit.Event) { e.GrantType = kind.name })
	answer, err := s.issue(r, p, kind)
	return answer, kind, err
}

func (s *Server) issue(r *http.Request, p *params, kind *grantType) (*tokenResponse, error) {
	creds, err := readCredentials(r, p)
	if err != nil {
		return nil, err
	}
	if kind.vouched != nil {
		creds.vouched = func(ctx context.Context, id string) (bool, error) { return kind.vouched(ctx, s, p, id) }
	}
	c, err := s.authenticateClient(r, creds, func() (string, error) { return kind.clientOf(r.Context(), s, p) })
	if err != nil {
		return nil, err
	}
	if !kind.allows(c) {
		return nil, oauth.UnauthorizedClient("this client is not registered for the grant type " + kind.name)
	}
	if err := s.limitToken(r, c.ID, kind, p); err != nil {
		return nil, err
	}
	req, err := s.sharedParameters(p, c)
	if err != nil {
		return nil, err
	}
	issued, err := kind.issue(r.Context(), s, req)
	if err != nil {
		return nil, err
	}
	if err := s.touch(r.Context(), c, issued); err != nil {
		return nil, err
	}
	return s.mint(r.Context(), c, issued, kind.name)
}

// allows reports whether a client may use the grant type.
func (k *grantType) allows(c *client.Client) bool {
	return c.Allows(k.name) && (!k.confidential || !c.Public()) && (!k.noRegistrations || c.Kind != client.Registered)
}

// touch notes that a client is in use. When a code is used up, the client gets its
// tokens even if the store cannot be told; the next request will. Without one, the
// first use has to be known, as the end of a client ends the tokens of those only
// that were used.
func (s *Server) touch(ctx context.Context, c *client.Client, issued *issuance) error {
	err := s.clients.Touch(ctx, c)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, client.ErrUnknown):
		return errUnknownClient
	case issued.user.Subject == "" && c.LastUsed.IsZero():
		return err
	}
	s.cfg.Log.Warn("could not note that a client is in use", zap.String("client_id", c.ID), zap.Error(err))
	return nil
}

func (s *Server) findGrantType(p *params) (*grantType, error) {
	name := p.get("grant_type")
	if err := p.err(); err != nil {
		return nil, err
	}
	if name == "" {
		return nil, oauth.InvalidRequest("grant_type is missing")
	}
	for i := range grantTypes {
		if kind := &grantTypes[i]; kind.name == name && (kind.offered == nil || kind.offered(&s.cfg)) {
			return kind, nil
		}
	}
	return nil, oauth.UnsupportedGrantType()
}

// sharedParameters checks what every grant type has in common.
func (s *Server) sharedParameters(p *params, c *client.Client) (*tokenRequest, error) {
	req := &tokenRequest{params: p, client: c, scope: p.get("scope")}
	uri := p.get("resource")
	if err := p.err(); err != nil {
		return nil, err
	}
	if uri == "" {
		return req, nil
	}
	var err error
	req.resource, err = s.resource(uri)
	return req, err
}

// mint makes the access token and the answer. The user is looked at once more:
// whoever was removed from the configuration, or got another password, gets no
// new tokens.
func (s *Server) mint(ctx context.Context, c *client.Client, i *issuance, grantTypeName string) (*tokenResponse, error) {
	user := i.user
	if user.Subject != "" {
		var ok bool
		if user, ok = s.current(ctx, user); !ok {
			return nil, oauth.InvalidGrant("the user has to sign in again")
		}
	} else {
		user.Subject = c.ID
	}
	// The client or the user may have lost scopes since the grant.
	scopes := s.permitted(user, c, i.scopes)
	if len(scopes) == 0 {
		return nil, oauth.InvalidGrant("user and client can no longer have what was granted")
	}
	access, err := s.keys.Mint(oauth.AccessTokenClaims{
		Issuer: s.cfg.Issuer, Subject: user.Subject, Audience: i.resource, ClientID: c.ID,
		Scope: scopes.String(), GrantID: i.grantID,
		Email: user.Email, Name: user.Name, Groups: user.Groups,
	}, s.cfg.AccessLifetime)
	if err != nil {
		return nil, oauth.ServerError(err)
	}
	s.cfg.Audit.Write(ctx, audit.Event{
		Name: audit.TokenIssue, User: user.Subject, Provider: user.Provider, ClientID: c.ID, Scopes: scopes, Resource: i.resource,
		GrantID: i.grantID, GrantType: grantTypeName, Token: access,
	})
	return &tokenResponse{
		AccessToken: access, TokenType: oauth.TokenTypeBearer, ExpiresIn: int64(s.cfg.AccessLifetime / time.Second),
		RefreshToken: i.refresh, Scope: scopes.String(),
	}, nil
}

// asRefusal is what a client is told. What is no refusal is a fault of the store.
func asRefusal(err error) *oauth.Error {
	if refusal, ok := errors.AsType[*oauth.Error](err); ok {
		return refusal
	}
	return oauth.TemporarilyUnavailable(err)
}

// refuse answers a token, revocation or registration request that failed.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	refusal := asRefusal(err)
	if refusal.Status >= http.StatusInternalServerError {
		s.cfg.Log.Error("could not answer", zap.String("path", r.URL.Path), zap.String("code", refusal.Code), zap.Error(err))
	} else {
		s.auditRefusal(r, refusal, err)
	}
	if refusal.Status == http.StatusUnauthorized && len(r.Header["Authorization"]) > 0 && w.Header().Get("WWW-Authenticate") == "" {
		// RFC 6749 section 5.2: a client that used the header learns its scheme.
		w.Header().Set("WWW-Authenticate", `Basic realm="`+s.origin.Host+`"`)
	}
	respond.Error(w, refusal)
}
