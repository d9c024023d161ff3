package caddymodule

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/gate"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
)

// The names are those of OpenTelemetry's conventions for MCP where there is one.
// Users, clients, sessions and tokens are never part of a trace: whoever reads
// traces need not be allowed to know them.
const (
	attrMethod    = attribute.Key("mcp.method.name")
	attrVersion   = attribute.Key("mcp.protocol.version")
	attrTool      = attribute.Key("gen_ai.tool.name")
	attrPrompt    = attribute.Key("gen_ai.prompt.name")
	attrTransport = attribute.Key("mcp_auth.transport")
	attrSession   = attribute.Key("mcp_auth.session") // whether the request belongs to one
	attrResult    = attribute.Key("mcp_auth.result")  // of the check, as in the metrics
	attrStatus    = attribute.Key("http.response.status_code")
)

// tracerName is what traces call this module.
const tracerName = "github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule"

// longCheck is from when on the check of a request gets a span of its own. A token
// that has been checked before takes a few microseconds.
const longCheck = 50 * time.Microsecond

// maxSpanText bounds what a client can write into a trace, in bytes.
const maxSpanText = 128

// tracedCheck writes into the span of Caddy's tracing handler how a request was
// checked, and what it is about. Without that handler it does nothing.
type tracedCheck struct {
	span  trace.Span // nil when the request is not traced
	begin time.Time
}

func traceCheck(r *http.Request) tracedCheck {
	span := trace.SpanFromContext(r.Context())
	if !span.IsRecording() {
		return tracedCheck{}
	}
	return tracedCheck{span, time.Now()}
}

// done is called when the request has been checked.
func (t tracedCheck) done(r *http.Request, path string, passed gate.Pass, refused *gate.Refused) {
	if t.span == nil {
		return
	}
	end := time.Now()
	if end.Sub(t.begin) >= longCheck {
		_, child := t.tracer().Start(r.Context(), "mcp_auth check", trace.WithTimestamp(t.begin))
		child.End(trace.WithTimestamp(end))
	}
	if result := checkResult(refused); result != "" {
		t.span.SetAttributes(attrResult.String(result))
	}
	calls := passed.Calls
	if refused != nil {
		calls = refused.Calls
	}
	if refused == nil || calls != nil {
		t.span.SetAttributes(callAttributes(r.Header, path, calls)...)
	}
}

// checkResult is what came out of a check: a value that the metrics have, or what
// the rules for tools say about the calls of a good token. It is "" for requests
// that need no token.
func checkResult(refused *gate.Refused) string {
	switch {
	case refused == nil:
		return gate.Outcome(nil).String()
	case refused.Reason == nil, errors.Is(refused.Reason, gate.ErrNoPath):
		return ""
	case errors.Is(refused.Reason, gate.ErrUnreadable):
		return "unreadable"
	case errors.Is(refused.Reason, gate.ErrLacking):
		return "lacking"
	case errors.Is(refused.Reason, gate.ErrDenied):
		return "denied"
	}
	return gate.Outcome(refused.Reason).String()
}

func (t tracedCheck) tracer() trace.Tracer { return t.span.TracerProvider().Tracer(tracerName) }

// callAttributes tell what a request is about: as its body says where that has
// been looked at, and otherwise as far as its headers do (MCP 2026-07-28,
// transports). That they agree with the body is then for the upstream to check.
func callAttributes(h http.Header, path string, calls []policy.Call) []attribute.KeyValue {
	transport := "streamable_http"
	if strings.HasSuffix(path, "/sse") || strings.HasSuffix(path, "/messages") {
		transport = "sse"
	}
	out := []attribute.KeyValue{attrTransport.String(transport), attrSession.Bool(h.Get("Mcp-Session-Id") != "")}
	add := func(key attribute.Key, s string) {
		if text := spanText(s); text != "" {
			out = append(out, key.String(text))
		}
	}
	method, name := h.Get("Mcp-Method"), h.Get("Mcp-Name")
	if len(calls) == 1 && calls[0].Method != "" {
		method = calls[0].Method
		if method == policy.MethodCall {
			name = calls[0].Tool
		}
	}
	add(attrMethod, method)
	add(attrVersion, h.Get("Mcp-Protocol-Version"))
	// What else can have a name, such as a resource, may tell of people.
	switch method {
	case policy.MethodCall:
		add(attrTool, name)
	case "prompts/get":
		add(attrPrompt, name)
	}
	return out
}

// spanText returns what of a header goes into a trace, or "".
func spanText(s string) string {
	if len(s) > maxSpanText || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return ""
	}
	return s
}

// serveTraced answers a request for an endpoint of ours in a span that is named
// after it.
func serveTraced(w http.ResponseWriter, r *http.Request, path string, endpoint http.HandlerFunc) {
	t := traceCheck(r)
	if t.span == nil {
		endpoint(w, r)
		return
	}
	ctx, span := t.tracer().Start(r.Context(), "mcp_auth "+authserver.Route(path))
	defer span.End()
	answer := caddyhttp.NewResponseRecorder(w, nil, nil)
	endpoint(answer, r.WithContext(ctx))
	span.SetAttributes(attrStatus.Int(answer.Status()))
	if answer.Status() >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, http.StatusText(answer.Status()))
	}
}
