package oauth_test

import (
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

func TestResourceURLs(t *testing.T) {
	for _, tc := range []struct {
		origin, path, url, metadata string
	}{
		{"https://h.example", "/mcp", "https://h.example/mcp", "https://h.example/.well-known/oauth-protected-resource/mcp"},
		{"https://h.example", "", "https://h.example", "https://h.example/.well-known/oauth-protected-resource"},
		{"http://localhost:8080", "/a/b", "http://localhost:8080/a/b", "http://localhost:8080/.well-known/oauth-protected-resource/a/b"},
	} {
		r := &oauth.Resource{Origin: tc.origin, Path: tc.path}
		if r.URL() != tc.url || r.MetadataURL() != tc.metadata {
			t.Errorf("got %s and %s, want %s and %s", r.URL(), r.MetadataURL(), tc.url, tc.metadata)
		}
	}
}

func TestChallengesNameTheMetadataOfTheAddressThatWasGiven(t *testing.T) {
	messages := &oauth.Resource{Origin: "https://h.example", Path: "/messages", KnownAs: "/sse"}
	if got, want := messages.MetadataURL(), "https://h.example/.well-known/oauth-protected-resource/sse"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := messages.URL(), "https://h.example/messages"; got != want {
		t.Errorf("the resource itself is %s, want %s", got, want)
	}
}

func TestResourceCoversWholeSegments(t *testing.T) {
	for _, tc := range []struct {
		resource, path string
		want           bool
	}{
		{"/mcp", "/mcp", true},
		{"/mcp", "/mcp/", true},
		{"/mcp", "/mcp/x", true},
		{"/mcp", "/mcp2", false},
		{"/mcp", "/mc", false},
		{"/mcp", "/MCP", false},
		{"/mcp", "/x/mcp", false},
		{"/mcp", "/", false},
		{"", "/", true},
		{"", "/anything", true},
	} {
		r := &oauth.Resource{Path: tc.resource}
		if got := r.Covers(tc.path); got != tc.want {
			t.Errorf("a resource at %q covers %q: %v, want %v", tc.resource, tc.path, got, tc.want)
		}
	}
}
