package gate

import (
	"net/http"
	"strings"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/respond"
)

// Answer wraps the response to a request that was let through. It changes three
// things and passes everything else on as it comes:
//
//   - a 401 of the upstream becomes a 502: the client's token was fine, and a
//     401 would make it start signing in all over again
//   - the CORS headers are the gate's, not the upstream's
//   - the endpoint event of an old SSE stream is corrected where the proxy
//     serves the upstream below a path of its own
type Answer struct {
	http.ResponseWriter
	gate    *Gate
	request *http.Request
	origin  string // that may read the answer, "" for none
	path    string // the public path of the request

	wroteHeader bool
	discard     bool // of a body that belongs to a replaced status
	event       *endpointRewriter
}

// Answer wraps w for a request that Check let through. It is called before the
// request is stripped.
func (g *Gate) Answer(w http.ResponseWriter, r *http.Request, path string) *Answer {
	return &Answer{ResponseWriter: w, gate: g, request: r, origin: g.corsOrigin(r.Header), path: path}
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
	if status == http.StatusUnauthorized {
		a.replaceUnauthorized()
		return
	}
	if prefix, ok := a.strippedPrefix(); ok || strings.HasSuffix(a.path, "/sse") {
		if a.request.Method == http.MethodGet && strings.HasPrefix(h.Get("Content-Type"), "text/event-stream") && status == http.StatusOK {
			a.event = &endpointRewriter{prefix: prefix}
			h.Del("Content-Length")
		}
	}
	a.ResponseWriter.WriteHeader(status)
}

// replaceUnauthorized writes the 502 that stands for a 401 of the upstream.
func (a *Answer) replaceUnauthorized() {
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
	respond.JSON(a.ResponseWriter, http.StatusBadGateway, refusalBody{
		"upstream_unauthorized", "the MCP server behind this gateway refused the gateway's request",
	})
}

// Write implements http.ResponseWriter.
func (a *Answer) Write(p []byte) (int, error) {
	if !a.wroteHeader {
		a.WriteHeader(http.StatusOK)
	}
	if a.discard {
		return len(p), nil
	}
	if a.event != nil && !a.event.done {
		if out := a.event.feed(p); len(out) > 0 {
			if _, err := a.ResponseWriter.Write(out); err != nil {
				return 0, err
			}
		}
		return len(p), nil
	}
	return a.ResponseWriter.Write(p)
}

// FlushError lets http.ResponseController flush. It is here, as a flush writes the
// header when nobody has, and that must not go past WriteHeader.
func (a *Answer) FlushError() error {
	if !a.wroteHeader {
		a.WriteHeader(http.StatusOK)
	}
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// Finish writes what is held back of a stream that ended within its first event.
// It is called when the handlers behind the gate have returned.
func (a *Answer) Finish() {
	if a.event == nil || a.event.done {
		return
	}
	if rest := a.event.rest(); len(rest) > 0 {
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
