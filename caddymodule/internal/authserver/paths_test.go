package authserver_test

import (
	"slices"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
)

func TestEveryListedPathIsAnswered(t *testing.T) {
	s := newSite(t, withProvider(newProvider()), asking, withDevices)
	for _, path := range slices.Concat(authserver.Paths(), authserver.OAuthPaths(true)) {
		if _, ok := s.Endpoint(path); !ok {
			t.Errorf("nothing answers %s", path)
		}
	}
}
