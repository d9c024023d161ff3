package gate

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// Reasons to refuse what a request with a good token asks for.
var (
	ErrUnreadable = errors.New("the request cannot be read without doubt")
	ErrLacking    = errors.New("the token lacks a scope for the call")
	ErrDenied     = errors.New("no scope that the caller can have is good for the call")
)

// Pass is what a request was let through with.
type Pass struct {
	// Claims of the caller; nil when authentication is omitted.
	Claims *token.Claims

	// Resource that the request is for, one of the configuration.
	Resource *oauth.Resource

	// Calls are the messages of the request, where the resource has rules.
	Calls []policy.Call

	lists *listing // nil where the resource has none
}

// listing is what an answer may show of lists of tools.
type listing struct {
	shows func(tool string) bool
	asked bool // the request asks for a list, so an answer in JSON is one
}

// caller is who has the claims, in the words of rules.
func caller(c *token.Claims) policy.Caller {
	return policy.Caller{Subject: c.Subject, Email: c.Email, Groups: c.Groups, Client: c.ClientID}
}

// gainable are the scopes that whoever has the claims can get.
func (g *Gate) gainable(ctx context.Context, c *token.Claims) policy.Set {
	var limit oauth.Scopes
	if g.cfg.ClientScopes != nil {
		limit = g.cfg.ClientScopes(ctx, c.ClientID)
	}
	return g.cfg.Policy.Gainable(caller(c), limit)
}

// judge lets a request through whose messages the rules of the resource allow. It
// decides by the body, which the upstream then gets byte by byte, and refuses
// what somebody could read in another way. What the caller can get, which may need
// a look at the store, is asked for only when something is missing.
func (g *Gate) judge(w http.ResponseWriter, r *http.Request, res *guarded, claims *token.Claims) (Pass, *Refused) {
	messages, fault := readMessages(w, r)
	if fault != nil {
		return Pass{}, g.unreadable(w, r, fault)
	}
	held, gainable := g.cfg.Policy.Held(claims.Scopes, caller(claims)), sync.OnceValue(func() policy.Set { return g.gainable(r.Context(), claims) })
	d := res.rules.Decide(messages, held, ^policy.Set(0))
	if d.Outcome == policy.Lacking {
		d = res.rules.Decide(messages, held, gainable())
	}
	f := refusal{reason: ErrDenied, read: true, calls: d.Calls, claims: claims}
	g.countCalls(res, d.Calls)
	switch d.Outcome {
	case policy.Lacking:
		g.stepUp(r.Context(), claims, d.Needed)
		f.status, f.reason = http.StatusForbidden, ErrLacking
		f.challenge = res.forbidden(claims.Scopes, d.Needed, "the call needs a scope that the token does not have")
		f.body = rpcErrors(messages, codeForbidden, "the token lacks a scope for this: "+d.Needed.String())
		return Pass{}, g.refuse(w, r, f)
	case policy.Denied:
		f.status = deniedStatus(r, messages)
		f.body = rpcErrors(messages, policy.CodeInvalidParams, "no scope that you can have here is good for this")
		return Pass{}, g.refuse(w, r, f)
	case policy.Allowed:
	}
	prepareForRules(r)
	lists := &listing{shows: func(tool string) bool { return res.rules.Shows(tool, held, gainable) }}
	for _, c := range d.Calls {
		lists.asked = lists.asked || strings.EqualFold(c.Method, policy.MethodList)
	}
	return Pass{Claims: claims, Resource: res.Resource, Calls: d.Calls, lists: lists}, nil
}

// countCalls counts calls of tools by what the configuration calls them, as the
// texts of clients have no end.
func (g *Gate) countCalls(res *guarded, calls []policy.Call) {
	for _, c := range calls {
		if c.Method == policy.MethodCall {
			g.cfg.Metrics.ToolCalled(cmp.Or(res.rules.NameOf(c.Tool), metrics.Other), c.Outcome.String())
		}
	}
}

// prepareForRules asks the upstream for answers that can be looked into: all of
// them, and not compressed.
func prepareForRules(r *http.Request) {
	r.Header["Accept-Encoding"] = []string{"identity"}
	r.Header.Del("Range")
	r.Header.Del("If-Range")
}

// stepUp tells the authorization server that a client will want more scopes. It
// is about clients that a person has allowed something: others have no refresh
// token.
func (g *Gate) stepUp(ctx context.Context, claims *token.Claims, needed oauth.Scopes) {
	if g.cfg.StepUp != nil && claims.GrantID != "" && claims.Subject != claims.ClientID {
		g.cfg.StepUp(ctx, claims.GrantID, needed)
	}
}

// deniedStatus is the status of an answer to calls that no scope can make good. A
// challenge would make clients ask people for nothing, and the Go SDK gives its
// connection up after other refusals. So the answer is an error of JSON-RPC, as
// an upstream gives it for a tool that it does not have. The old transport reads
// no answer where it posts, so it gets a status that tells it.
func deniedStatus(r *http.Request, messages []policy.Message) int {
	accept := strings.Join(r.Header["Accept"], ",")
	if !strings.Contains(accept, "application/json") && !strings.Contains(accept, "text/event-stream") {
		return http.StatusForbidden
	}
	for i := range messages {
		if messages[i].ID != nil {
			return http.StatusOK
		}
	}
	return http.StatusForbidden // for a notification, which has no answer
}

// codeForbidden is our own code of JSON-RPC errors, outside of the range that MCP
// keeps for itself.
const codeForbidden = 403

// rpcError is an error answer of JSON-RPC 2.0 (section 5.1). Where the id is not
// known it is left out, as MCP has it.
type rpcError struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id,omitempty"`
	Error   rpcErrorDetails `json:"error"`
}

type rpcErrorDetails struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func newRPCError(id []byte, code int, message string) rpcError {
	return rpcError{Version: "2.0", ID: id, Error: rpcErrorDetails{code, message}}
}

// rpcErrors answers every request of a body with the same error.
func rpcErrors(messages []policy.Message, code int, message string) any {
	if len(messages) == 1 {
		return newRPCError(messages[0].ID, code, message)
	}
	var out []rpcError
	for i := range messages {
		if m := &messages[i]; m.Method != "" && m.ID != nil {
			out = append(out, newRPCError(m.ID, code, message))
		}
	}
	if out == nil {
		return newRPCError(nil, code, message)
	}
	return out
}

// unreadable refuses a request before anything of it has been decided.
func (g *Gate) unreadable(w http.ResponseWriter, r *http.Request, f *bodyFault) *Refused {
	return g.refuse(w, r, refusal{
		status: f.status, body: newRPCError(f.ID, f.Code, f.Text),
		reason: fmt.Errorf("%w: %w", ErrUnreadable, f.Fault), read: f.read,
	})
}
