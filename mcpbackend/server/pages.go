package server

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// serveHealth answers as long as the process serves.
func (s *Server) serveHealth(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, map[string]string{"status": "healthy", "timestamp": time.Now().UTC().Format(time.RFC3339)})
}

// serveIndex describes the server to somebody who opens its address.
func (s *Server) serveIndex(w http.ResponseWriter, _ *http.Request) {
	data := "cisco"
	if s.sampleData {
		data = "sample"
	}
	writeJSON(w, map[string]any{
		"name":           serverName,
		"title":          serverTitle,
		"authentication": "none",
		"data":           data,
		"endpoints": map[string]string{
			"mcp": "/mcp", "sse": "/sse", "messages": "/messages", "health": "/health", "whoami": "/whoami",
		},
		"tools": s.toolNames,
	})
}

// serveWhoami tells what a gateway in front of this server has passed on: the X-Mcp-* headers, the Host, and whether
// there were credentials. It never repeats the credentials themselves.
func (s *Server) serveWhoami(w http.ResponseWriter, r *http.Request) {
	forwarded := map[string][]string{}
	for name, values := range r.Header {
		if strings.HasPrefix(name, "X-Mcp-") {
			forwarded[name] = values
		}
	}
	writeJSON(w, map[string]any{
		"headers":       forwarded,
		"host":          r.Host,
		"authorization": len(r.Header.Values("Authorization")) > 0,
		"cookie":        len(r.Header.Values("Cookie")) > 0,
	})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // an error means that the client is gone
}
