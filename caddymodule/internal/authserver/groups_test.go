package authserver

import (
	"slices"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

func TestGroupsThatCountAreKept(t *testing.T) {
	var groups []string
	for range 300 {
		groups = append(groups, strings.Repeat("g", 20))
	}
	groups = append(groups, "admins", "writers")
	s := &Server{cfg: Config{
		Allow:  &policy.Allow{Groups: []string{"admins"}},
		Scopes: []Scope{{Name: "read"}, {Name: "write", Allow: &policy.Allow{Groups: []string{"writers"}}}},
	}}
	kept := s.keepGroups(groups)
	if !slices.Contains(kept, "writers") || len(kept) > 120 || !s.admits(login.Identity{Groups: kept}) {
		t.Errorf("kept %d groups: %.60q", len(kept), kept)
	}
	if got := (&Server{}).keepGroups([]string{"b", "a"}); !slices.Equal(got, []string{"b", "a"}) {
		t.Errorf("few groups become %q", got)
	}
}
