package gate

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/mcpsession"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/respond"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// Headers of the Streamable HTTP transport, in canonical form.
const (
	sessionHeader = "Mcp-Session-Id"
	versionHeader = "Mcp-Protocol-Version"
)

// firstWithoutSessions is the first version of the protocol without sessions.
const firstWithoutSessions = "2026-07-28"

// maxSessions bounds how many sessions a request may name. One is usual; more than
// one may be an attempt to name different ones to this server and the next.
const maxSessions = 4

// errSessions says that a request names sessions in a way that servers could
// disagree about.
var errSessions = fmt.Errorf("%w: it has several", ErrSession)

// checkSession demands that the sessions which a request names were given to its
// caller. There are none from version 2026-07-28 on, so servers ignore the header
// then; it is taken away, as not all of them do.
func (g *Gate) checkSession(r *http.Request, res *guarded, claims *token.Claims) error {
	if g.cfg.Sessions == nil || claims == nil {
		return nil
	}
	ids := r.Header[sessionHeader]
	if len(ids) == 0 && r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		// The answer may begin with the endpoint event, which has to be read.
		delete(r.Header, "Accept-Encoding")
	}
	if len(ids) == 0 && r.URL.RawQuery == "" {
		return nil
	}
	if len(ids) > 0 && withoutSessions(r.Header) {
		delete(r.Header, sessionHeader)
		ids = nil
	}
	if len(ids) > 1 {
		return errSessions
	}
	ids = append(slices.Clip(ids), sessionsOf(r.URL.RawQuery)...)
	if len(ids) > maxSessions {
		return errSessions
	}
	caller := ownerOf(claims)
	for _, id := range ids {
		if id == "" {
			continue
		}
		err := g.cfg.Sessions.Check(r.Context(), res.session(id), caller)
		if errors.Is(err, mcpsession.ErrUnavailable) {
			return err
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrSession, err)
		}
	}
	return nil
}

// withoutSessions reports whether a request is one of a version without sessions.
// Where it says so in two ways it does not matter which one counts.
func withoutSessions(h http.Header) bool {
	version := h.Get(versionHeader)
	return len(version) == len(firstWithoutSessions) && version[0] >= '0' && version[0] <= '9' && version >= firstWithoutSessions
}

// session is what the id stands for at the resource. Resources of one server have
// their sessions in common.
func (r *guarded) session(id string) mcpsession.Session {
	return mcpsession.Session{Resource: r.audiences[0], ID: id}
}

// ownerOf is whom a session can belong to. An access token has another id after
// each refresh, but a static one has the same for ever.
func ownerOf(c *token.Claims) mcpsession.Caller {
	caller := mcpsession.Caller{Issuer: c.Issuer, Subject: c.Subject, ClientID: c.ClientID}
	if c.Issuer == "" {
		caller.Token = c.ID
	}
	return caller
}

// sessionsOf returns the sessions that a query names, as the message endpoint of the
// HTTP+SSE transport has them. It looks at the query in each way in which servers do.
func sessionsOf(query string) []string {
	var ids []string
	for pair := range strings.FieldsFuncSeq(query, func(c rune) bool { return c == '&' || c == ';' }) {
		name, value, _ := strings.Cut(pair, "=")
		if isSessionParameter(unescaped(name)) {
			ids = append(ids, unescaped(value))
		}
	}
	return ids
}

// unescaped decodes a part of a query. What cannot be decoded stands for itself.
func unescaped(s string) string {
	if decoded, err := url.QueryUnescape(s); err == nil {
		return decoded
	}
	return s
}

// isSessionParameter reports whether a server could read a session from a parameter
// of the name: it is sessionId, sessionid or session_id. Servers that know lists
// take what stands in brackets behind a name for an index, and a name that itself
// is in brackets for one without (qs of Express 4, Rack).
func isSessionParameter(name string) bool {
	name, _, _ = strings.Cut(strings.TrimLeft(name, "[]"), "[")
	name, _, _ = strings.Cut(name, "]")
	const want = "sessionid"
	matched := 0
	for i := range len(name) {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case (c < 'a' || c > 'z') && (c < '0' || c > '9'):
			continue
		}
		if matched == len(want) || c != want[matched] {
			return false
		}
		matched++
	}
	return matched == len(want)
}

// sessionNotFound is what MCP servers answer for a session that they do not know.
// The client then begins a new one.
var sessionNotFound = []byte(`{"jsonrpc":"2.0","error":{"code":-32001,"message":"Session not found"},"id":null}`)

// noSession answers a request for a session that is not the caller's, as if there
// were none. A 401 or 403 would make the client throw its token away.
func (g *Gate) noSession(w http.ResponseWriter, r *http.Request, claims *token.Claims, reason error) *Refused {
	respond.CORS(w, "*")
	respond.Unread(w, r, func() { respond.Raw(w, http.StatusNotFound, sessionNotFound) })
	return &Refused{Status: http.StatusNotFound, Reason: reason, Claims: claims}
}

// bindsSessions reports whether sessions of the answer belong to somebody.
func (a *Answer) bindsSessions() bool { return a.gate.cfg.Sessions != nil && a.claims != &noClaims }

// noteSession remembers whom the upstream gives a session to, and forgets one that
// it has ended.
func (a *Answer) noteSession(status int) {
	if !a.bindsSessions() || status < 200 || status > 299 {
		return
	}
	asked := a.request.Header.Get(sessionHeader)
	if given := a.Header()[sessionHeader]; len(given) == 1 && given[0] != asked {
		a.bindSession(given[0])
	}
	if a.request.Method == http.MethodDelete && asked != "" {
		a.gate.cfg.Sessions.Forget(a.request.Context(), a.resource().session(asked))
	}
}

// noteEndpoint remembers whom the upstream gives an address to post messages to. One
// with several sessions gives none: some servers repeat there what they were asked.
func (a *Answer) noteEndpoint(address string) {
	_, query, _ := strings.Cut(address, "?")
	query, _, _ = strings.Cut(query, "#")
	if ids := sessionsOf(query); len(ids) == 1 {
		a.bindSession(ids[0])
	}
}

func (a *Answer) bindSession(id string) {
	a.gate.cfg.Sessions.Bind(a.request.Context(), a.resource().session(id), ownerOf(a.claims))
}

// resource is the resource that the request was let through to.
func (a *Answer) resource() *guarded { return a.gate.resource(a.path) }
