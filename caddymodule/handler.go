package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/gate"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/respond"
)

// Handler is the front door of one site. Requests for its own endpoints, such as
// /authorize and /token, are answered; every other request needs a valid token
// to get to the next handler.
//
// For requests that pass, these placeholders are set:
//
// Placeholder | Description
// ------------|------------
// `{http.auth.user.id}` | The subject of the token: the user, or the client that acts for itself
// `{http.auth.user.email}` | The user's e-mail address
// `{http.auth.user.name}` | The user's name
// `{http.auth.user.groups}` | The user's groups, separated by commas
// `{http.auth.user.scopes}` | The scopes of the token, separated by spaces
// `{http.auth.user.client_id}` | The client that the token was issued to
// `{http.auth.user.issuer}` | The authorization server that issued the token, "" for static tokens
type Handler struct {
	Options

	// Forward nothing but the paths of the resources; any other path is
	// answered with 404. The shortcut form of the directive sets it.
	// Default: false.
	ResourcesOnly bool `json:"resources_only,omitempty"`

	app     *App
	options Options // with placeholders replaced
	store   StoreModule
	logins  []LoginModule
	log     *zap.Logger
	site    *site // to be used after app.build
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.mcp_auth", New: func() caddy.Module { return new(Handler) }}
}

// Provision checks the options and tells the app about the site.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.log = ctx.Logger()
	var err error
	if h.options, err = h.resolved(); err != nil {
		return err
	}
	if h.store, err = loadStore(ctx, h, h.Options); err != nil {
		return err
	}
	if h.logins, err = loadLogins(ctx, h, h.Options); err != nil {
		return err
	}
	app, err := ctx.App("mcp_auth")
	if err != nil {
		return fmt.Errorf("loading the mcp_auth app: %w", err)
	}
	h.app = app.(*App)
	h.app.handlers = append(h.app.handlers, h)
	return nil
}

// ServeHTTP answers the endpoints of the site and checks everything else.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return h.app.accessLogs.serve(w, r, func() error { return h.serve(w, r, next) })
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if err := h.app.build(); err != nil {
		return caddyhttp.Error(http.StatusServiceUnavailable, err)
	}
	s := h.site
	public := publicURL(r)
	if gate.AmbiguousPath(public) {
		respond.Unread(w, r, func() { respond.Error(w, errAmbiguous) })
		return nil
	}
	path := public.Path
	if !s.hostAllowed(r, path) {
		respond.Unread(w, r, func() { respond.Error(w, errMisdirected) })
		h.noteRefusal(r, s, &gate.Refused{Status: http.StatusMisdirectedRequest, Reason: errHost})
		return nil
	}
	if endpoint, ok := s.auth.Endpoint(path); ok {
		serveTraced(w, r, path, endpoint)
		return nil
	}
	if s.gate.Metadata(w, r, path) {
		return nil
	}
	return h.pass(w, r, next, s, path)
}

// pass lets a request through to the upstream if its token is good for the path.
func (h *Handler) pass(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, s *site, path string) error {
	traced := traceCheck(r)
	passed, refused := s.gate.Check(w, r, path)
	traced.done(r, path, passed, refused)
	if refused != nil {
		h.noteRefusal(r, s, refused)
		return nil
	}
	borrowed, refused := s.lend(w, r, passed)
	if refused != nil {
		refused.Resource, refused.Claims = passed.Resource, passed.Claims
		h.noteRefusal(r, s, refused)
		return nil
	}
	if s.auditsCalls {
		s.auditCalls(r, passed)
	}
	answer, r := s.gate.Answer(w, r, path, passed)
	defer answer.Close()
	if borrowed != nil {
		answer.Unauthorized = borrowed.doubt
	}
	s.gate.Strip(r)
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	setPlaceholders(repl, passed.Claims)
	link := s.links[passed.Resource]
	if err := s.tell(r, link, passed.Claims, borrowed); err != nil {
		return caddyhttp.Error(http.StatusInternalServerError, err)
	}
	if err := next.ServeHTTP(answer, conceal(r, link.headers())); err != nil {
		return err
	}
	// Not deferred: when the upstream breaks off, the server aborts the
	// connection by a panic, and nothing may be written any more.
	answer.Finish()
	return nil
}

// Refusals of requests that belong to no site or to no path for sure.
var (
	errAmbiguous   = oauth.InvalidRequest("the path can be read in more than one way")
	errMisdirected = &oauth.Error{Code: "invalid_request", Status: http.StatusMisdirectedRequest,
		Description: "this server does not go by that host name"}
)

// errHost is the reason to refuse a request for a name that is not the site's.
var errHost = errors.New("the host is not that of the site; a proxy in front has to keep it, or to be one of trusted_proxies")

// noteRefusal tells the logs of a refusal, of which Caddy itself tells only when
// debugging.
func (h *Handler) noteRefusal(r *http.Request, s *site, refused *gate.Refused) {
	switch {
	case harmless(refused):
		reason := "preflight"
		if refused.Reason != nil {
			reason = refused.Reason.Error()
		}
		h.log.Debug("request refused", zap.Int("status", refused.Status), zap.String("reason", reason),
			zap.String("method", r.Method), zap.String("remote_ip", clientIP(r)))
	case refused.Status >= http.StatusInternalServerError:
		h.log.Warn("nobody can tell whether a request is to be let through", zap.Int("status", refused.Status), zap.Error(refused.Reason))
	default:
		s.auditRefusal(r, refused)
	}
}

// firstRefused is the first of the calls that was not allowed, or -1.
func firstRefused(calls []policy.Call) int {
	return slices.IndexFunc(calls, func(c policy.Call) bool { return c.Outcome != policy.Allowed })
}

// publicURL is the URL that the client asked for, before other handlers took
// something from its front.
func publicURL(r *http.Request) *url.URL {
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && original.URL != nil {
		return original.URL
	}
	return r.URL
}

// clientIP is the address of the peer, behind the trusted proxies of the web
// server's configuration.
func clientIP(r *http.Request) string {
	if ip, ok := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string); ok {
		return ip
	}
	return r.RemoteAddr
}

// fromTrustedProxy reports whether the peer is one of the trusted proxies.
func fromTrustedProxy(r *http.Request) bool {
	trusted, ok := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return ok && trusted
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
