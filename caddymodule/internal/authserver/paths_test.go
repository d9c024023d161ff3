package authserver_test

import (
	"slices"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
)

func TestEveryListedPathIsAnswered(t *testing.T) {
	s := newSite(t, withProvider(newProvider()), asking, withDevices, func(cfg *authserver.Config) { cfg.RequireFactor = true })
	for _, path := range slices.Concat(authserver.Paths(), authserver.OAuthPaths(true)) {
		if _, ok := s.Endpoint(path); !ok {
			t.Errorf("nothing answers %s", path)
		}
	}
}

func TestNothingBelowRegisterGetsPast(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{"/register/", "/register/mcp_ABCDEFGHIJKLMNOPQRSTUVWXYZ", "/register/x/y", "/register/.well-known/x"} {
		if _, ok := s.Endpoint(path); !ok || !authserver.Owns(path) {
			t.Errorf("%s is left to others", path)
		}
	}
	for _, path := range []string{"/registers", "/register2/x", "/Register/x"} {
		if _, ok := s.Endpoint(path); ok || authserver.Owns(path) {
			t.Errorf("%s is taken from others", path)
		}
	}
	for _, path := range authserver.Paths() {
		if !authserver.Owns(path) {
			t.Errorf("a resource could be at %s", path)
		}
	}
}
