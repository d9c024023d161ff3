package gate

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/mcpsession"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/respond"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// Reasons to refuse a request that are no fault of a token. Together with those
// of package token they are for logs and metrics.
var (
	ErrMissing  = errors.New("no token")
	ErrAudience = token.ErrAudience
	ErrScope    = errors.New("the token has no scope of the resource")
	ErrOrigin   = errors.New("the Origin header is not allowed")
	ErrSession  = errors.New("the MCP session is not the caller's")
	ErrNoPath   = errors.New("no resource is at this path")
	ErrLimited  = errors.New("too many requests of this user and client")
	ErrTunnel   = errors.New("nothing looks into a tunnel, and no revocation ends it")
)

// StaticToken is a bearer token of the configuration. Only its hash is kept.
type StaticToken struct {
	hash   [sha256.Size]byte
	length int
	claims *token.Claims
}

// NewStaticToken returns a static token with the claims that requests carrying it
// get. Their ID, if they have none, becomes one that no other token has.
func NewStaticToken(secret string, claims *token.Claims) StaticToken {
	hash := sha256.Sum256([]byte(secret))
	if claims.ID == "" {
		claims.ID = base64.RawURLEncoding.EncodeToString(hash[:12])
	}
	return StaticToken{hash, len(secret), claims}
}

// FindStatic returns the claims of a static token. It compares with every token
// there is, in constant time.
func FindStatic(tokens []StaticToken, presented string) (*token.Claims, bool) {
	// Access tokens are far longer than static ones, and need not be hashed to
	// see that they are none. The length of a token is no secret.
	if !slices.ContainsFunc(tokens, func(t StaticToken) bool { return t.length == len(presented) }) {
		return nil, false
	}
	sum := sha256.Sum256([]byte(presented))
	var found *token.Claims
	for i := range tokens {
		if subtle.ConstantTimeCompare(sum[:], tokens[i].hash[:]) == 1 {
			found = tokens[i].claims
		}
	}
	return found, found != nil
}

// Refused is the log's view of a refusal.
type Refused struct {
	Status int
	Reason error

	// Calls are the messages of the request, when they are the reason.
	Calls []policy.Call

	// Again says that the same has been reported a moment ago.
	Again bool

	// Resource that the request was for; nil for none of the configuration.
	Resource *oauth.Resource

	// Claims are those of the caller, when the token itself is good.
	Claims *token.Claims
}

// Check decides about a request for a cleaned public path. It returns what the
// request is let through with, or it has written the refusal and returns why.
// Nothing about a request but its path and its token has a say in whether it
// needs one. It takes a session that does not count from the request.
func (g *Gate) Check(w http.ResponseWriter, r *http.Request, path string) (Pass, *Refused) {
	if isPreflight(r) {
		respond.CloseUnread(w, r)
		respond.Preflight(w, r, "*")
		return Pass{}, &Refused{Status: http.StatusNoContent}
	}
	res := g.resource(path)
	if res == nil {
		return Pass{}, g.notFound(w, r)
	}
	passed, refused := g.decide(w, r, res)
	if refused != nil {
		refused.Resource = res.Resource
	}
	return passed, refused
}

// decide is Check for a request to a resource.
func (g *Gate) decide(w http.ResponseWriter, r *http.Request, res *guarded) (Pass, *Refused) {
	claims, err := g.counted(r, res)
	switch {
	case err == nil && r.Method == http.MethodConnect:
		return Pass{}, g.refuseTunnel(w, r, claims)
	case err == nil && res.rules != nil && claims != nil:
		return g.judge(w, r, res, claims)
	case err == nil:
		return Pass{Claims: claims, Resource: res.Resource}, nil
	case errors.Is(err, ErrLimited):
		return Pass{}, g.refuseLimited(w, r, claims, err)
	case errors.Is(err, ErrMissing):
		return Pass{}, g.refuse(w, r, unauthorized(res.missing, err))
	case errors.Is(err, ErrScope):
		return Pass{}, g.refuseScope(w, r, res, claims)
	case errors.Is(err, token.ErrUnavailable), errors.Is(err, mcpsession.ErrUnavailable):
		return Pass{}, g.unavailable(w, r, err)
	case errors.Is(err, ErrSession):
		return Pass{}, g.noSession(w, r, claims, err)
	case errors.Is(err, ErrOrigin):
		return Pass{}, g.refuse(w, r, refusal{status: http.StatusForbidden, body: wrongOrigin, reason: err, claims: claims})
	}
	return Pass{}, g.refuse(w, r, unauthorized(res.invalid, err))
}

// counted checks the token, the origin and the MCP session of a request, and
// counts the outcome.
func (g *Gate) counted(r *http.Request, res *guarded) (*token.Claims, error) {
	begin := time.Now()
	claims, err := g.authenticate(r, res)
	if err == nil && !g.originAllowed(r.Header) {
		err = ErrOrigin
	}
	if err == nil {
		err = g.underLimit(r, claims)
	}
	if err == nil {
		err = g.checkSession(r, res, claims)
	}
	if !g.cfg.Omit {
		g.cfg.Metrics.Checked(Outcome(err), time.Since(begin))
	}
	return claims, err
}

// Outcome is what metrics call the reason of a refusal, or nil.
func Outcome(err error) metrics.Check {
	if err == nil {
		return metrics.CheckOK
	}
	for _, o := range []struct {
		reason error
		check  metrics.Check
	}{
		{ErrMissing, metrics.CheckMissing}, {token.ErrExpired, metrics.CheckExpired}, {token.ErrRevoked, metrics.CheckRevoked},
		{ErrAudience, metrics.CheckAudience}, {ErrScope, metrics.CheckScope}, {ErrOrigin, metrics.CheckOrigin},
		{ErrSession, metrics.CheckSession}, {ErrLimited, metrics.CheckLimited}, {token.ErrUnavailable, metrics.CheckUnavailable}, {mcpsession.ErrUnavailable, metrics.CheckUnavailable},
	} {
		if errors.Is(err, o.reason) {
			return o.check
		}
	}
	return metrics.CheckMalformed
}

// isPreflight reports whether the request is a CORS preflight. It carries no
// credentials by design and never reaches the upstream.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions &&
		r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != ""
}

// authenticate returns the claims of the request's token for the resource. They
// come with ErrScope too.
func (g *Gate) authenticate(r *http.Request, res *guarded) (*token.Claims, error) {
	if g.cfg.Omit {
		return nil, nil
	}
	presented, err := oauth.BearerToken(r.Header)
	if errors.Is(err, oauth.ErrNoCredentials) {
		if claims, ok := g.queryToken(r); ok {
			return g.admit(claims, res)
		}
		return nil, ErrMissing
	}
	if err != nil {
		return nil, err
	}
	if claims, ok := g.findStatic(presented); ok {
		return g.admit(claims, res)
	}
	return g.verify(r.Context(), presented, res)
}

// findStatic returns the claims of a token that is no access token: one of the
// configuration, or one that was made by command.
func (g *Gate) findStatic(presented string) (*token.Claims, bool) {
	claims, ok := FindStatic(g.cfg.Static, presented)
	if !ok && g.cfg.APITokens != nil {
		return g.cfg.APITokens.Find(presented)
	}
	return claims, ok
}

// admit demands that a static token is good for the resource. Most of them are for
// all.
func (g *Gate) admit(claims *token.Claims, res *guarded) (*token.Claims, error) {
	if claims.Audience != "" && !slices.Contains(res.audiences, claims.Audience) {
		return nil, ErrAudience
	}
	return g.inScope(claims, res)
}

func (g *Gate) verify(ctx context.Context, presented string, res *guarded) (*token.Claims, error) {
	if g.cfg.Verifier == nil {
		return nil, token.ErrMalformed
	}
	claims, err := g.cfg.Verifier.VerifyFor(ctx, presented, res.audiences)
	if err != nil {
		return nil, err
	}
	return g.inScope(claims, res)
}

// inScope demands at least one scope of the resource.
func (g *Gate) inScope(claims *token.Claims, res *guarded) (*token.Claims, error) {
	var ok bool
	switch {
	case g.cfg.AnyScope:
		ok = true
	case g.cfg.Policy != nil:
		ok = g.cfg.Policy.Held(claims.Scopes, caller(claims))&res.own != 0
	default:
		ok = slices.ContainsFunc(claims.Scopes, res.Scopes.Has)
	}
	if !ok {
		return claims, ErrScope
	}
	return claims, nil
}

// queryToken finds a static token in the query, where that is switched on.
func (g *Gate) queryToken(r *http.Request) (*token.Claims, bool) {
	if !g.cfg.QueryToken {
		return nil, false
	}
	values := r.URL.Query()["token"]
	if len(values) != 1 {
		return nil, false
	}
	return g.findStatic(values[0])
}

// refusalBody is the JSON that goes with a refusal, for people who debug.
type refusalBody struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// The bodies of refusals.
var (
	noToken     = refusalBody{"invalid_token", "send a valid bearer token in the Authorization header"}
	noScope     = refusalBody{"insufficient_scope", "the token has none of the scopes of this server"}
	noTunnel    = refusalBody{"invalid_request", "use GET, POST or DELETE; this server opens no tunnels"}
	wrongOrigin = refusalBody{"origin_not_allowed", "pages of this origin may not call this server; see cors_origins"}
)

// refusal is an answer to a request that is not let through.
type refusal struct {
	status    int
	challenge string // "" for none
	body      any
	reason    error
	read      bool // nothing of the request's body is left
	calls     []policy.Call
	claims    *token.Claims
}

func unauthorized(challenge string, reason error) refusal {
	return refusal{status: http.StatusUnauthorized, challenge: challenge, body: noToken, reason: reason}
}

// refuseScope refuses a token that has none of the resource's scopes.
func (g *Gate) refuseScope(w http.ResponseWriter, r *http.Request, res *guarded, claims *token.Claims) *Refused {
	needed := oauth.ParseScope(res.scope)
	if p := g.cfg.Policy; p == nil || p.Of(needed)&g.gainable(r.Context(), claims) != 0 {
		g.stepUp(r.Context(), claims, needed)
	}
	return g.refuse(w, r, refusal{
		status: http.StatusForbidden, challenge: res.forbidden(claims.Scopes, needed, noScope.Description), body: noScope, reason: ErrScope,
		claims: claims,
	})
}

// refuseTunnel refuses a WebSocket over HTTP/2 or HTTP/3 (RFC 8441, RFC 9220), which the
// proxy would open. Over HTTP/1.1 it is the header Upgrade that is taken away.
func (g *Gate) refuseTunnel(w http.ResponseWriter, r *http.Request, claims *token.Claims) *Refused {
	w.Header().Set("Allow", "GET, POST, DELETE")
	return g.refuse(w, r, refusal{status: http.StatusMethodNotAllowed, body: noTunnel, reason: ErrTunnel, claims: claims})
}

// refuse is the one writer of 401, 403, 405 and 429 answers, and of those to requests
// that cannot be read.
func (g *Gate) refuse(w http.ResponseWriter, r *http.Request, f refusal) *Refused {
	if f.challenge != "" {
		w.Header().Set("WWW-Authenticate", f.challenge)
	}
	respond.CORS(w, "*")
	answer := func() { respond.JSON(w, f.status, f.body) }
	if f.read {
		answer()
	} else {
		respond.Unread(w, r, answer)
	}
	return &Refused{Status: f.status, Reason: f.reason, Calls: f.calls, Claims: f.claims}
}

// unavailable answers when nobody can tell whether a token is good. A 401 would
// make the client throw it away.
func (g *Gate) unavailable(w http.ResponseWriter, r *http.Request, reason error) *Refused {
	respond.CORS(w, "*")
	respond.Unread(w, r, func() { respond.Error(w, oauth.TemporarilyUnavailable(reason)) })
	return &Refused{Status: http.StatusServiceUnavailable, Reason: reason}
}

func (g *Gate) notFound(w http.ResponseWriter, r *http.Request) *Refused {
	respond.Unread(w, r, func() { respond.NotFound(w) })
	return &Refused{Status: http.StatusNotFound, Reason: ErrNoPath}
}
