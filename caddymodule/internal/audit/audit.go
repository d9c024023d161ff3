// Package audit tells what happens to clients, sign-ins, grants and tokens, one
// line for each event. The names of events and fields are documented in
// docs/reference.md, and do not change.
package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strings"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// Name is what happened.
type Name string

// All events.
const (
	ClientRegister Name = "client.register" // a client introduces itself
	ClientUpdate   Name = "client.update"
	ClientAdd      Name = "client.add" // the operator does it
	ClientRemove   Name = "client.remove"

	Login        Name = "login"
	Logout       Name = "logout"
	FactorChange Name = "factor.change" // of a second factor or a passkey
	FactorReset  Name = "factor.reset"

	DeviceStart   Name = "device.start"
	Authorization Name = "authorization" // what a person, or the memory of one, answers
	PageRefuse    Name = "page.refuse"

	TokenIssue      Name = "token.issue"
	TokenReuse      Name = "token.reuse" // of a code or a refresh token
	TokenIntrospect Name = "token.introspect"
	GrantRevoke     Name = "grant.revoke"

	APITokenCreate Name = "api_token.create"
	APITokenRevoke Name = "api_token.revoke"

	RequestRefuse Name = "request.refuse" // for an MCP endpoint
	ToolCall      Name = "tool.call"

	KeysRotate  Name = "keys.rotate"
	StoreExport Name = "store.export"
)

// Outcome is how it went.
type Outcome string

// All outcomes.
const (
	Success Outcome = "success"
	Refused Outcome = "refused"
)

// Who did it, where that could be somebody else.
const (
	ByUser     = "user"
	ByClient   = "client"
	ByOperator = "operator"
	ByProvider = "provider" // that people sign in at
	ByServer   = "server"
)

// Event is one event. What is not known stays empty, and is left out.
type Event struct {
	Name    Name
	Outcome Outcome // Success when empty
	Reason  string  // of ours, never what somebody has sent
	By      string

	User         string // the subject
	Provider     string // the login that vouches for the user
	ClientID     string
	RedirectURI  string // of which only the host is told
	Scopes       oauth.Scopes
	Resource     string
	GrantID      string
	GrantType    string
	Token        string // of which a hash is told that nobody can turn back
	Tool, Method string // of a call
	Named        string // of a token that was made by command
	Path         string // of an endpoint of ours
	Reference    string // that a page shows
	Status       int    // of an answer
	Count        int    // of what was ended
}

// Bounds of what others choose, in bytes.
const (
	maxText   = 512
	maxScopes = 1024
)

// Log writes events. A nil Log writes none. It is safe for concurrent use.
type Log struct {
	zap    *zap.Logger
	issuer string
	bound  *bound
}

// New returns a log of an issuer that writes to a logger.
func New(to *zap.Logger, issuer string) *Log { return &Log{zap: to, issuer: issuer, bound: newBound()} }

// Write writes an event of a request, or of something else that the context
// belongs to. What the event leaves open is taken from what is known about the
// request.
func (l *Log) Write(ctx context.Context, e Event) {
	if l == nil {
		return
	}
	from := about(ctx)
	e = e.completed(from.Event)
	ip := from.ip()
	suppressed, ok := 0, true
	// A reuse has ended a grant, which happens once; so no flood may hide it.
	if e.Outcome == Refused && e.Name != TokenReuse {
		suppressed, ok = l.bound.admit(ctx, ip)
	}
	if !ok {
		return
	}
	fields := append(e.fields(), text("ip", ip), text("request_id", from.id()), text("issuer", l.issuer), number("suppressed", suppressed))
	if e.Name == TokenReuse {
		l.zap.Warn(string(e.Name), fields...)
		return
	}
	l.zap.Info(string(e.Name), fields...)
}

// completed fills in what an event leaves open.
func (e Event) completed(known Event) Event {
	if e.Outcome == "" {
		e.Outcome = Success
	}
	for _, f := range []struct {
		to   *string
		from string
	}{
		{&e.User, known.User}, {&e.ClientID, known.ClientID}, {&e.RedirectURI, known.RedirectURI}, {&e.Resource, known.Resource},
		{&e.GrantID, known.GrantID}, {&e.GrantType, known.GrantType}, {&e.Token, known.Token}, {&e.Provider, known.Provider},
	} {
		if *f.to == "" {
			*f.to = f.from
		}
	}
	return e
}

func (e Event) fields() []zap.Field {
	out := []zap.Field{
		zap.String("event", string(e.Name)), zap.String("outcome", string(e.Outcome)),
		text("reason", e.Reason), text("by", e.By), text("user", e.User), text("provider", e.Provider),
		text("client_id", e.ClientID), text("client_host", documentHost(e.ClientID)), text("redirect_host", redirectHost(e.RedirectURI)),
		text("resource", e.Resource), text("grant_id", e.GrantID), text("grant_type", e.GrantType),
		text("tool", e.Tool), text("method", e.Method), text("token", Fingerprint(e.Token)),
		text("name", e.Named), text("path", e.Path), text("reference", e.Reference),
	}
	if len(e.Scopes) > 0 {
		out = append(out, zap.String("scopes", cut(e.Scopes.String(), maxScopes)))
	}
	return append(out, number("status", e.Status), number("count", e.Count))
}

// text is a field with a text, or none without one.
func text(name, s string) zap.Field {
	if s == "" {
		return zap.Skip()
	}
	return zap.String(name, cut(s, maxText))
}

// number is a field with a number, or none for zero.
func number(name string, n int) zap.Field {
	if n == 0 {
		return zap.Skip()
	}
	return zap.Int(name, n)
}

// cut bounds a text that others may have chosen. Line breaks and the like are for
// the encoder, which escapes them.
func cut(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	return strings.ToValidUTF8(s, "")
}

// Fingerprint is what is told of a token: the first 8 bytes of its SHA-256, in
// hexadecimal. Tokens have far more bits than could be tried out.
func Fingerprint(token string) string {
	if token == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:8])
}

// documentHost is the host of a metadata document, which vouches for the client.
func documentHost(clientID string) string {
	if !oauth.LooksLikeDocument(clientID) {
		return ""
	}
	return redirectHost(clientID)
}

// redirectHost is where answers go: a host, or a private-use scheme with its
// colon.
func redirectHost(uri string) string {
	u, err := url.Parse(uri)
	switch {
	case err != nil || u.Scheme == "":
		return ""
	case u.Scheme != "http" && u.Scheme != "https":
		return u.Scheme + ":"
	}
	return u.Host
}
