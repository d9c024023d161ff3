package caddymodule

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/gate"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// Audit says what the audit log tells beyond what it always does. The log is that
// of the logger mcp_auth.audit.
type Audit struct {
	// One line for each call of a tool that is let through. Default: false.
	ToolCalls *bool `json:"tool_calls,omitempty"`
}

func (a *Audit) merge(global *Audit) *Audit {
	var out Audit
	if a != nil {
		out = *a
	}
	if global != nil {
		out.ToolCalls = cmp.Or(out.ToolCalls, global.ToolCalls)
	}
	return &out
}

func (p *parser) audit() error {
	p.options.Audit = new(Audit)
	return p.readBlock("audit", "audit.", map[string]subdirective{
		"tool_calls": {usage: "tool_calls [on|off]", read: p.flag(&p.options.Audit.ToolCalls)},
	})
}

// auditLogs are the audit logs of the issuers, by name.
type auditLogs struct {
	mu   sync.Mutex
	logs map[string]*audit.Log
}

// of returns the log of an issuer. The logger is a child of the app's, which is
// called mcp_auth.
func (a *auditLogs) of(issuer string, app *zap.Logger) *audit.Log {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.logs == nil {
		a.logs = map[string]*audit.Log{}
	}
	if a.logs[issuer] == nil {
		a.logs[issuer] = audit.New(app.Named("audit"), issuer)
	}
	return a.logs[issuer]
}

// auditOf returns the audit log of an issuer.
func (a *App) auditOf(issuer string) *audit.Log { return a.audits.of(issuer, a.log) }

// requestID tells a request from all others. It is in the access log as well then,
// as uuid.
func requestID(r *http.Request) string {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return ""
	}
	id, _ := repl.GetString("http.request.uuid")
	return id
}

// audited is the context of a request for the audit log.
func audited(r *http.Request) context.Context {
	return audit.Begin(r.Context(), audit.Source{
		IP: func() string { return clientIP(r) }, RequestID: func() string { return requestID(r) },
	})
}

// operated is the context of a request to the admin endpoint.
func operated(r *http.Request) context.Context {
	return audit.Begin(r.Context(), audit.Source{IP: func() string {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			return r.RemoteAddr // of a Unix socket
		}
		return host
	}})
}

// auditRefusal tells of a request that was refused for what it had, and not for a
// lack of it: every client begins without a token, and scanners without a path.
// The token is never told, but what it can be recognized by.
func (s *site) auditRefusal(r *http.Request, refused *gate.Refused) {
	e := audit.Event{Name: audit.RequestRefuse, Outcome: audit.Refused, Status: refused.Status, Reason: refused.Reason.Error()}
	if refused.Resource != nil {
		e.Resource = refused.Resource.URL()
	}
	if presented, err := oauth.BearerToken(r.Header); err == nil {
		e.Token = presented
	}
	if i := firstRefused(refused.Calls); i >= 0 {
		e.Method, e.Tool = refused.Calls[i].Method, refused.Calls[i].Tool
	}
	s.audit.Write(audited(r), asCaller(e, refused.Claims))
}

// auditCalls tells of the calls of tools in a request that is let through, as far
// as it is known what they are: by its body where that has been looked at, and
// else by its headers.
func (s *site) auditCalls(r *http.Request, passed gate.Pass) {
	calls := passed.Calls
	if calls == nil && r.Header.Get("Mcp-Method") == policy.MethodCall {
		calls = []policy.Call{{Method: policy.MethodCall, Tool: r.Header.Get("Mcp-Name")}}
	}
	for _, c := range calls {
		if c.Method == policy.MethodCall {
			s.audit.Write(audited(r), asCaller(audit.Event{Name: audit.ToolCall, Tool: c.Tool, Resource: passed.Resource.URL()}, passed.Claims))
		}
	}
}

// asCaller adds who has the claims; nobody is known without any.
func asCaller(e audit.Event, c *token.Claims) audit.Event {
	if c != nil {
		e.User, e.ClientID, e.GrantID, e.Scopes = c.Subject, c.ClientID, c.GrantID, c.Scopes
	}
	return e
}

// harmless reports whether a refusal is part of every day: every client begins
// without a token, scanners without a path, and whoever is told to wait may not.
func harmless(refused *gate.Refused) bool {
	return refused.Reason == nil || refused.Again || errors.Is(refused.Reason, gate.ErrMissing) || errors.Is(refused.Reason, gate.ErrNoPath)
}
