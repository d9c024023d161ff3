// Package respond writes the answers that are no pages: JSON documents, errors
// in the words of the protocol, and the CORS headers that go with them.
package respond

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// JSON writes v with the status. Unless the caller set Cache-Control before, the
// answer is not stored anywhere.
func JSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		// Only our own structures come here; all of them can be marshalled.
		status, data = http.StatusInternalServerError, []byte(`{"error":"server_error"}`)
	}
	Raw(w, status, data)
}

// Raw writes a JSON document that is at hand in its final form.
func Raw(w http.ResponseWriter, status int, data []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(data)))
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	w.WriteHeader(status)
	// A failed write means that the client is gone.
	_, _ = w.Write(data)
}

// errorBody is the error answer of RFC 6749 section 5.2.
type errorBody struct {
	Error       string `json:"error"`
	Description string `json:"error_description,omitempty"`
}

// Error writes a refusal as JSON (RFC 6749 section 5.2). It never sends the
// cause. A refusal without a status, which was made for a redirect, is a 400.
func Error(w http.ResponseWriter, e *oauth.Error) {
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	JSON(w, cmp.Or(e.Status, http.StatusBadRequest), errorBody{e.Code, e.Description})
}

// NotFound writes the 404 of discovery: JSON and open to all origins, since
// clients parse what they probe.
func NotFound(w http.ResponseWriter) {
	CORS(w, "*")
	JSON(w, http.StatusNotFound, errorBody{"not_found", "there is nothing at this address"})
}

// MethodNotAllowed writes a 405 that names the methods there are.
func MethodNotAllowed(w http.ResponseWriter, methods ...string) {
	w.Header().Set("Allow", strings.Join(methods, ", "))
	JSON(w, http.StatusMethodNotAllowed, errorBody{"invalid_request", "use " + strings.Join(methods, " or ")})
}

// Request and response headers that MCP clients in browsers use.
const (
	allowHeaders = "Authorization, Content-Type, Accept, MCP-Protocol-Version, Mcp-Session-Id, Mcp-Method, Mcp-Name, Last-Event-ID"
	allowMethods = "GET, POST, DELETE, OPTIONS"
	exposed      = "WWW-Authenticate, Mcp-Session-Id, Retry-After"
)

// CORS lets pages of the origin, or of all origins for "*", read the answer.
// Credentials in the sense of CORS, such as cookies, are never allowed.
func CORS(w http.ResponseWriter, origin string) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", exposed)
	if origin != "*" {
		h.Add("Vary", "Origin")
	}
}

// Preflight answers a CORS preflight for the origin ("*" for all). Headers of
// the MCP family that the browser asks for are allowed by name, as parameters
// may travel in headers of their own. Methods beyond those of MCP are named.
func Preflight(w http.ResponseWriter, r *http.Request, origin string, methods ...string) {
	CORS(w, origin)
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", withMethods(methods))
	h.Set("Access-Control-Allow-Headers", requestedHeaders(r))
	h.Set("Access-Control-Max-Age", "7200")
	h.Add("Vary", "Access-Control-Request-Headers")
	w.WriteHeader(http.StatusNoContent)
}

// withMethods adds those that are neither among the methods of MCP nor always
// allowed.
func withMethods(methods []string) string {
	allowed := allowMethods
	for _, m := range methods {
		if m != http.MethodHead && !strings.Contains(allowed, m) {
			allowed += ", " + m
		}
	}
	return allowed
}

// requestedHeaders adds the Mcp-Param-* headers that a preflight names, at most
// sixteen, to those that are always allowed.
func requestedHeaders(r *http.Request) string {
	var allowed strings.Builder
	allowed.WriteString(allowHeaders)
	budget := 16
	for name := range strings.SplitSeq(r.Header.Get("Access-Control-Request-Headers"), ",") {
		name = strings.TrimSpace(name)
		if len(name) > 64 || !strings.HasPrefix(strings.ToLower(name), "mcp-param-") || !isToken(name) {
			continue
		}
		if budget--; budget < 0 {
			break
		}
		allowed.WriteString(", " + name)
	}
	return allowed.String()
}

func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return s != ""
}
