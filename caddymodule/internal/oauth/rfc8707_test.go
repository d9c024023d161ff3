package oauth_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

func TestCanonicalResource(t *testing.T) {
	for _, tc := range []struct {
		rule, uri, want string // want "" for a refusal
	}{
		{"the canonical form stays", "https://mcp.example.com/mcp", "https://mcp.example.com/mcp"},
		{"a trailing slash goes", "https://mcp.example.com/mcp/", "https://mcp.example.com/mcp"},
		{"the slash of an origin goes", "https://mcp.example.com/", "https://mcp.example.com"},
		{"the scheme and the host are lowered", "HTTPS://MCP.Example.COM/Mcp", "https://mcp.example.com/Mcp"},
		{"the default port of https goes", "https://mcp.example.com:443/mcp", "https://mcp.example.com/mcp"},
		{"the default port of http goes", "http://localhost:80/mcp", "http://localhost/mcp"},
		{"an empty port goes", "https://mcp.example.com:/mcp", "https://mcp.example.com/mcp"},
		{"another port stays", "https://mcp.example.com:8443/mcp", "https://mcp.example.com:8443/mcp"},
		{"the port of the other scheme stays", "http://localhost:443/mcp", "http://localhost:443/mcp"},
		{"IPv6 with the default port", "http://[::1]:80/mcp", "http://[::1]/mcp"},
		{"IPv6 with another port", "http://[::1]:8080/mcp", "http://[::1]:8080/mcp"},

		{"empty", "", ""},
		{"too long", "https://a/" + strings.Repeat("a", oauth.MaxRedirectURILength), ""},
		{"a relative reference", "/mcp", ""},
		{"no host", "https:///mcp", ""},
		{"a port without a host", "https://:443/mcp", ""},
		{"an opaque URI", "https:mcp.example.com", ""},
		{"another scheme", "ftp://mcp.example.com/mcp", ""},
		{"a URN", "urn:example:mcp", ""},
		{"a fragment", "https://mcp.example.com/mcp#x", ""},
		{"an empty fragment", "https://mcp.example.com/mcp#", ""},
		{"a query", "https://mcp.example.com/mcp?x=1", ""},
		{"an empty query", "https://mcp.example.com/mcp?", ""},
		{"user information", "https://user@mcp.example.com/mcp", ""},
		{"empty user information", "https://@mcp.example.com/mcp", ""},
		{"a backslash", `https://mcp.example.com\mcp`, ""},
		{"a control character", "https://mcp.example.com/mcp\n", ""},
		{"a non-ASCII host", "https://mcp.exämple.com/mcp", ""},
		{"an escape", "https://mcp.example.com/%6dcp", ""},
		{"a doubled slash", "https://mcp.example.com//mcp", ""},
		{"two trailing slashes", "https://mcp.example.com/mcp//", ""},
		{"two slashes after the origin", "https://mcp.example.com//", ""},
		{"a dot segment", "https://mcp.example.com/./mcp", ""},
		{"a parent segment", "https://mcp.example.com/x/../mcp", ""},
		{"a final parent segment", "https://mcp.example.com/mcp/..", ""},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			got, ok := oauth.CanonicalResource(tc.uri)
			if ok != (tc.want != "") || got != tc.want {
				t.Errorf("CanonicalResource(%q) = %q, %v; want %q", tc.uri, got, ok, tc.want)
			}
		})
	}
}

func FuzzCanonicalResource(f *testing.F) {
	for _, uri := range []string{
		"https://mcp.example.com/mcp", "HTTP://[::1]:80/", "https://a:/", "https://a//", "https://a:443:443/", "http://a/%2e",
	} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		got, ok := oauth.CanonicalResource(uri)
		if !ok {
			return
		}
		if again, ok := oauth.CanonicalResource(got); !ok || again != got {
			t.Fatalf("%q becomes %q and that becomes %q, %v", uri, got, again, ok)
		}
		u, err := url.Parse(got)
		if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || strings.ContainsAny(got, "#?") || strings.HasSuffix(got, "/") {
			t.Fatalf("%q becomes %q, which is not canonical", uri, got)
		}
	})
}
