package authserver

import (
	"context"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
)

// Allow records a consent and returns the code, as the consent page does.
func (s *Server) Allow(ctx context.Context, c grant.Consent) (string, error) {
	return s.grants.Allow(ctx, c)
}

// Guards returns who the endpoints are for, by path.
func (s *Server) Guards() map[string]string {
	names := map[guard]string{forPeople: "people", forPrograms: "programs", forServers: "servers", forMonitors: "monitors"}
	out := map[string]string{}
	for _, e := range s.endpoints() {
		out[e.path] = names[e.guard]
	}
	return out
}
