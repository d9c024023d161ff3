package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

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
		h.logRefusal(r, &gate.Refused{Status: http.StatusMisdirectedRequest, Reason: errHost})
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
		h.logRefusal(r, refused)
		return nil
	}
	borrowed, refused := s.lend(w, r, passed)
	if refused != nil {
		h.logRefusal(r, refused)
		return nil
	}
	answer, r := s.gate.Answer(w, r, path, passed)
	defer answer.Close()
	if borrowed != nil {
		answer.Unauthorized = borrowed.doubt
	}
	s.gate.Strip(r)
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	setPlaceholders(repl, passed.Claims)
	for _, f := range s.forward {
		if value := headerValue(repl.ReplaceAll(f.Value, "")); value != "" {
			r.Header[f.Header] = []string{value}
		}
	}
	if err := s.links[passed.Resource].identify(r.Header, passed.Claims, borrowed); err != nil {
		return caddyhttp.Error(http.StatusInternalServerError, err)
	}
	if err := next.ServeHTTP(answer, r); err != nil {
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

// logRefusal writes one line for a refusal: Caddy itself logs refusals only when
// debugging. The token is never part of it.
func (h *Handler) logRefusal(r *http.Request, refused *gate.Refused) {
	level := zapcore.InfoLevel
	if refused.Reason == nil || refused.Again || errors.Is(refused.Reason, gate.ErrMissing) || errors.Is(refused.Reason, gate.ErrNoPath) {
		// Every client begins without a token, scanners without a path, and
		// whoever is told to wait may not.
		level = zapcore.DebugLevel
	}
	if c := h.log.Check(level, "request refused"); c != nil {
		reason := "preflight"
		if refused.Reason != nil {
			reason = refused.Reason.Error()
		}
		c.Write(append(refusedCall(refused.Calls), zap.Int("status", refused.Status), zap.String("reason", reason),
			zap.String("method", r.Method), zap.String("remote_ip", clientIP(r)))...)
	}
}

// maxLoggedName bounds what the log takes of a client's names, in bytes.
const maxLoggedName = 128

// refusedCall tells which message of a request was not allowed, the first one of
// several.
func refusedCall(calls []policy.Call) []zap.Field {
	i := slices.IndexFunc(calls, func(c policy.Call) bool { return c.Outcome != policy.Allowed })
	if i < 0 {
		return nil
	}
	name := func(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxLoggedName)], "") }
	return []zap.Field{zap.String("rpc_method", name(calls[i].Method)), zap.String("tool", name(calls[i].Tool))}
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
