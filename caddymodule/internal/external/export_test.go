package external

import (
	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/jwks"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/outbound"
)

// NewDirectoryWith returns a directory that fetches in its own way.
func NewDirectoryWith(f *outbound.Fetcher) *Directory {
	return &Directory{fetcher: f, log: zap.NewNop(), keys: map[string]*jwks.Cache{}}
}
