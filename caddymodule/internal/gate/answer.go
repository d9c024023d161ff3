package gate

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/respond"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// Answer wraps the response to a request that was let through. It notes which
// sessions the upstream gives out, changes five things and passes everything else
// on as it comes:
//
//   - a 401 of the upstream becomes a 502: the client's token was fine, and a
//     401 would make it start signing in all over again
//   - cookies with the names of the authorization server's are dropped
//   - the CORS headers are the gate's, not the upstream's
//   - the endpoint event of an old SSE stream is corrected where the proxy
//     serves the upstream below a path of its own
//   - lists of tools lack what the caller may not call, where a resource has
//     rules
type Answer struct {
	http.ResponseWriter
	gate    *Gate
	request *http.Request
	origin  string // that may read the answer, "" for none
	path    string // the public path of the request

	// How the streams of a revoked grant are ended.
	streams *Streams
	claims  *token.Claims // of the caller
	cancel  context.CancelFunc
	stream  bool       // the answer is an event stream, and registered
	alive   *keptAlive // the writer of an event stream; nil when none is kept alive
	sse     bool       // the request is for one of the HTTP+SSE transport (MCP 2024-11-05)

	// Unauthorized is called when the upstream answers 401; nil for nobody.
	Unauthorized func()

	wroteHeader bool
	discard     bool // of a body that belongs to a replaced status
	event       *endpointRewriter
	lists       *listing // what lists may show; nil for everything
	filter      filter   // of the body; nil to let it pass
}

// filter takes out of a body what the caller shall not see.
type filter interface {
	Feed(p []byte) []byte // what of the next bytes can go out
	Rest() []byte         // and what at the end
}

// noClaims are those of requests that need no token.
var noClaims token.Claims

// Answer wraps w for a request that Check let through. It is called before the
// request is stripped, and returns the request to go on with: one that ends when
// its event stream has to. Close must be called in the end.
func (g *Gate) Answer(w http.ResponseWriter, r *http.Request, path string, pass Pass) (*Answer, *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	r = r.WithContext(ctx)
	a := &Answer{ResponseWriter: w, gate: g, request: r, origin: g.corsOrigin(r.Header), path: path, streams: g.cfg.Streams, claims: &noClaims, cancel: cancel, lists: pass.lists}
	a.sse = r.Method == http.MethodGet && strings.HasSuffix(path, "/sse")
	if pass.Claims != nil {
		a.claims = pass.Claims
	}
	return a, r
}

// watchStream registers an event stream, so that revoking its grant ends it. The
// look at the revocations comes after it, lest one falls in between.
func (a *Answer) watchStream() {
	if a.streams == nil {
		return
	}
	a.stream = true
	a.streams.add(a)
	if a.claims.GrantID != "" && a.gate.revoked(a.claims) {
		a.cancel()
	}
}

// revoked reports whether what a request was let through with has been revoked
// meanwhile.
func (g *Gate) revoked(c *token.Claims) bool {
	return g.cfg.Verifier != nil && g.cfg.Verifier.Revoked(c) || g.cfg.APITokens != nil && g.cfg.APITokens.Revoked(c.GrantID)
}

// Close ends what the answer holds, however the handlers behind the gate ended.
func (a *Answer) Close() {
	if a.stream {
		a.streams.remove(a)
	}
	a.cancel()
	if a.alive != nil {
		a.alive.close()
	}
}

// Unwrap lets http.ResponseController reach the server's writer.
func (a *Answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (a *Answer) WriteHeader(status int) {
	if a.wroteHeader {
		return
	}
	if status >= 100 && status < 200 {
		a.ResponseWriter.WriteHeader(status)
		return
	}
	a.wroteHeader = true
	h := a.Header()
	for name := range h {
		if strings.HasPrefix(name, "Access-Control-") {
			delete(h, name)
		}
	}
	if a.origin != "" {
		respond.CORS(a.ResponseWriter, a.origin)
	}
	if len(h["Set-Cookie"]) > 0 {
		a.dropOwnCookies()
	}
	switch {
	case status == http.StatusUnauthorized:
		if a.Unauthorized != nil {
			a.Unauthorized()
		}
		a.replace(upstreamUnauthorized)
		return
	case a.lists != nil && !a.chooseFilter():
		a.replace(upstreamEncoded)
		return
	}
	a.noteSession(status)
	stream := status == http.StatusOK && isEventStream(h)
	if stream {
		a.watchStream()
		a.watchEndpoint()
	}
	a.ResponseWriter.WriteHeader(status)
	if stream {
		a.keepAlive()
	}
}

// keepAlive has comments written into the stream while it is idle. One with an
// encoding or a length has no room for them.
func (a *Answer) keepAlive() {
	every, h := a.gate.cfg.StreamKeepAlive, a.Header()
	if every > 0 && a.request.Method != http.MethodHead && h.Get("Content-Encoding") == "" && h.Get("Content-Length") == "" {
		a.alive = keepAlive(a.ResponseWriter, every, a.cancel)
		a.ResponseWriter = a.alive
	}
}

// watchEndpoint has the first event of a stream looked at that may be one of the
// HTTP+SSE transport. Those within a session of the newer one are not.
func (a *Answer) watchEndpoint() {
	if a.request.Method != http.MethodGet {
		return
	}
	prefix, stripped := a.strippedPrefix()
	e := &endpointRewriter{prefix: prefix, rewrites: stripped || a.sse}
	if a.bindsSessions() && a.request.Header.Get(sessionHeader) == "" {
		e.found = a.noteEndpoint
	}
	if !e.rewrites && e.found == nil {
		return
	}
	a.event = e
	if e.rewrites {
		a.Header().Del("Content-Length")
	}
}

// dropOwnCookies keeps the upstream from signing a browser in or out.
func (a *Answer) dropOwnCookies() {
	h := a.Header()
	h["Set-Cookie"] = slices.DeleteFunc(h["Set-Cookie"], func(line string) bool {
		name, _, _ := strings.Cut(line, "=")
		return slices.Contains(a.gate.cfg.Cookies, strings.Trim(name, " \t"))
	})
	if len(h["Set-Cookie"]) == 0 {
		delete(h, "Set-Cookie")
	}
}

// What stands for answers of the upstream that the client cannot get.
var (
	upstreamUnauthorized = refusalBody{"upstream_unauthorized", "the MCP server behind this gateway refused the gateway's request"}
	upstreamEncoded      = refusalBody{"upstream_encoded", "the MCP server behind this gateway sends lists of tools compressed, although it was asked not to, in another charset than UTF-8, or as several types"}
)

// replace writes a 502 in place of the upstream's answer.
func (a *Answer) replace(body refusalBody) {
	a.discard = true
	h := a.Header()
	for name := range h {
		if strings.HasPrefix(name, "Content-") {
			delete(h, name) // it described the body that is dropped
		}
	}
	for _, name := range []string{"Www-Authenticate", "Cache-Control", "Expires", "Last-Modified", "Etag", "Age", "Accept-Ranges", "Trailer"} {
		h.Del(name)
	}
	respond.JSON(a.ResponseWriter, http.StatusBadGateway, body)
}

func isEventStream(h http.Header) bool {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "text/event-stream")
}

// readsAsOne reports whether everybody reads an answer of the type in the same way: it
// has one type, and a charset that has ASCII where UTF-8 has it. Some servers let
// clients choose the charset, and in UTF-7 or EBCDIC nothing would look like a list.
func readsAsOne(contentType []string) bool {
	if strings.Join(contentType, "") == "" {
		return true
	}
	_, params, err := mime.ParseMediaType(contentType[0])
	charset, named := params["charset"]
	switch {
	case len(contentType) > 1 || err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter):
		return false
	case named:
		charset = strings.ToLower(charset)
		return slices.ContainsFunc(asciiCharsets, func(prefix string) bool { return strings.HasPrefix(charset, prefix) })
	}
	return err == nil || !strings.Contains(strings.ToLower(contentType[0]), "charset")
}

// asciiCharsets are the beginnings of the names of such charsets.
var asciiCharsets = []string{"utf-8", "utf8", "us-ascii", "iso-8859-", "windows-125"}

// chooseFilter finds out whether the answer can have a list of tools in it. It
// reports false for one that cannot be looked into.
func (a *Answer) chooseFilter() bool {
	h := a.Header()
	switch {
	case isEventStream(h):
		a.filter = policy.NewEventFilter(a.lists.shows)
	case a.lists.asked:
		a.filter = policy.NewFilter(a.lists.shows)
	case strings.Contains(strings.ToLower(strings.Join(h["Content-Type"], " ")), "text/event-stream"):
		return false // beside another type
	default:
		return true
	}
	for _, encoding := range h["Content-Encoding"] {
		if encoding != "" && !strings.EqualFold(encoding, "identity") {
			return false
		}
	}
	if !readsAsOne(h["Content-Type"]) {
		return false
	}
	// These are about the bytes before.
	for _, name := range []string{"Content-Length", "Content-Md5", "Digest", "Content-Digest", "Repr-Digest", "Etag", "Accept-Ranges"} {
		h.Del(name)
	}
	return true
}

// Write implements http.ResponseWriter.
func (a *Answer) Write(p []byte) (int, error) {
	if !a.wroteHeader {
		a.WriteHeader(http.StatusOK)
	}
	if a.discard {
		return len(p), nil
	}
	out := p
	if a.event != nil && !a.event.done {
		out = a.event.feed(out)
	}
	if a.filter != nil {
		out = a.filter.Feed(out)
	}
	if len(out) == 0 {
		return len(p), nil
	}
	if _, err := a.ResponseWriter.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// FlushError lets http.ResponseController flush. It is here, as a flush writes the
// header when nobody has, and that must not go past WriteHeader.
func (a *Answer) FlushError() error {
	if !a.wroteHeader {
		a.WriteHeader(http.StatusOK)
	}
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// Finish writes the header if nobody has, which would otherwise go out past
// WriteHeader, and what is held back of a stream that ended within its first
// event. It is called when the handlers behind the gate have returned without an
// error.
func (a *Answer) Finish() {
	if !a.wroteHeader {
		a.WriteHeader(http.StatusOK)
	}
	var rest []byte
	if a.event != nil && !a.event.done {
		rest = a.event.rest()
	}
	if a.filter != nil && !a.discard {
		rest = slices.Concat(a.filter.Feed(rest), a.filter.Rest())
	}
	if len(rest) > 0 {
		// A failed write means that the client is gone.
		_, _ = a.ResponseWriter.Write(rest)
	}
}

// strippedPrefix is what handlers after the gate took from the front of the path.
func (a *Answer) strippedPrefix() (string, bool) {
	now := a.request.URL.Path
	prefix, ok := strings.CutSuffix(a.path, now)
	if !ok || prefix == "" || !strings.HasPrefix(now, "/") {
		return "", false
	}
	return prefix, true
}
