package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// firstModern is the first protocol version without sessions. Versions are dates and compare as text.
const firstModern = "2026-07-28"

// serveMCP hands a request on /mcp to the SDK handler for its kind. One SDK handler serves either sessions or the
// stateless protocol, and answers either with a stream or with JSON, so that one path for all clients takes three:
//
//   - modern: version 2026-07-28 and later, which every request states in MCP-Protocol-Version. These clients do not
//     have sessions, and a session id from one is to be ignored.
//   - sessions: older versions. They begin with a POST of initialize, and everything after it, including the stream
//     of GET and the end by DELETE, carries the Mcp-Session-Id that the answer gave.
//   - bare: what is left, a POST of anything but initialize without a session. Scripts do that, with curl or with
//     Python's requests. A session handler refuses it ("invalid during session initialization"); this one answers in
//     plain JSON.
//
// The choice is not a security decision: all three check the request themselves.
func (s *Server) serveMCP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Header.Get("Mcp-Protocol-Version") >= firstModern:
		if r.Header.Get("Mcp-Method") == "subscriptions/listen" {
			s.serveStream(s.modern, w, r)
			return
		}
		s.modern.ServeHTTP(w, r)
	case r.Method == http.MethodGet:
		s.serveStream(s.sessions, w, r)
	case r.Method != http.MethodPost || r.Header.Get("Mcp-Session-Id") != "":
		s.sessions.ServeHTTP(w, r)
	default:
		s.serveSessionless(w, r)
	}
}

// serveSessionless serves a POST that names no session, after a look at its body.
func (s *Server) serveSessionless(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.maxBody))
	if err != nil {
		if tooLong, ok := errors.AsType[*http.MaxBytesError](err); ok {
			http.Error(w, fmt.Sprintf("request body exceeds %d bytes", tooLong.Limit), http.StatusRequestEntityTooLarge)
			return
		}
		http.Error(w, "failed to read body", http.StatusBadRequest)
		return
	}
	r2 := r.Clone(r.Context())
	r2.Body = io.NopCloser(bytes.NewReader(body))
	if isInitialize(body) {
		s.sessions.ServeHTTP(w, r2)
		return
	}
	// The SDK wants a client to accept both JSON and streams. That is a rule for sessions; the answer here is always
	// JSON, so accepting that is enough, and so is no Accept header at all (RFC 9110 §12.5.1).
	if acceptsJSON(r.Header.Values("Accept")) {
		r2.Header.Set("Accept", "application/json, text/event-stream")
	}
	s.bare.ServeHTTP(w, r2)
}

// isInitialize reports whether a body holds an initialize request, alone or in a batch (which version 2025-03-26
// had). Malformed bodies are for the SDK to refuse.
func isInitialize(body []byte) bool {
	type message struct {
		Method string `json:"method"`
	}
	var one message
	if json.Unmarshal(body, &one) == nil {
		return one.Method == "initialize"
	}
	var batch []message
	if json.Unmarshal(body, &batch) != nil {
		return false
	}
	for _, m := range batch {
		if m.Method == "initialize" {
			return true
		}
	}
	return false
}

func acceptsJSON(accept []string) bool {
	if len(accept) == 0 {
		return true
	}
	for _, header := range accept {
		for item := range strings.SplitSeq(header, ",") {
			media, _, _ := strings.Cut(item, ";")
			switch strings.ToLower(strings.TrimSpace(media)) {
			case "*/*", "application/*", "application/json":
				return true
			}
		}
	}
	return false
}

// serveSSE serves GET /sse, the stream of version 2024-11-05. Its first event tells the client where to POST. The
// SDK derives that address from the request's path, so the request is shown to it as one for /messages.
func (s *Server) serveSSE(w http.ResponseWriter, r *http.Request) {
	r2 := r.Clone(r.Context())
	r2.URL.Path, r2.URL.RawPath = "/messages", ""
	s.serveStream(s.sse, w, r2)
}

// serveStream serves a request whose answer stays open until the client leaves, and ends it when the server stops:
// waiting for such requests, a graceful stop would never come to an end.
func (s *Server) serveStream(h http.Handler, w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)()
	h.ServeHTTP(w, r.WithContext(ctx))
}
