package authserver

import (
	"context"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
)

// Allow records a consent and returns the code, as the consent page does.
func (s *Server) Allow(ctx context.Context, c grant.Consent) (string, error) {
	return s.grants.Allow(ctx, c)
}
