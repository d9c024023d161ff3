package client_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

func TestRedirects(t *testing.T) {
	c := &client.Client{RedirectURIs: []string{
		"https://app.example/cb", "http://localhost/callback", "cursor://x/cb",
		// A configuration that was not checked still opens nothing.
		"javascript:alert(1)", "http://app.example/cb", "https://app.example/cb#x", "",
	}}
	for _, tc := range []struct {
		rule, uri string
		want      bool
	}{
		{"a registered URI", "https://app.example/cb", true},
		{"the last of several", "cursor://x/cb", true},
		{"loopback on any port", "http://localhost:52817/callback", true},
		{"another spelling of loopback", "http://127.0.0.1:52817/callback", false},
		{"another path", "https://app.example/cb/", false},
		{"an unregistered host", "https://evil.example/cb", false},
		{"a registered URI that may not be registered", "javascript:alert(1)", false},
		{"registered http elsewhere", "http://app.example/cb", false},
		{"a registered fragment", "https://app.example/cb#x", false},
		{"nothing", "", false},
	} {
		if got := c.Redirects(tc.uri); got != tc.want {
			t.Errorf("%s: Redirects(%q) = %v, want %v", tc.rule, tc.uri, got, tc.want)
		}
	}
}

func TestAllows(t *testing.T) {
	for _, tc := range []struct {
		rule       string
		registered []string
		asked      string
		want       bool
	}{
		{"what is registered", []string{oauth.GrantClientCredentials}, oauth.GrantClientCredentials, true},
		{"what is not", []string{oauth.GrantAuthorizationCode}, oauth.GrantClientCredentials, false},
		{"a refresh is part of the code grant", []string{oauth.GrantAuthorizationCode}, oauth.GrantRefreshToken, true},
		{"a refresh without the code grant", []string{oauth.GrantClientCredentials, oauth.GrantRefreshToken}, oauth.GrantRefreshToken, false},
		{"nothing registered", nil, oauth.GrantAuthorizationCode, false},
		{"an empty name", nil, "", false},
	} {
		c := &client.Client{GrantTypes: tc.registered}
		if got := c.Allows(tc.asked); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.rule, got, tc.want)
		}
	}
}

func TestNarrow(t *testing.T) {
	asked := oauth.Scopes{"mcp", "admin"}
	for _, tc := range []struct {
		rule      string
		has, want oauth.Scopes
	}{
		{"no limit", nil, asked},
		{"a limit", oauth.Scopes{"mcp"}, oauth.Scopes{"mcp"}},
		{"a client that may have nothing", oauth.Scopes{}, oauth.Scopes{}},
	} {
		c := &client.Client{Scopes: tc.has}
		if diff := cmp.Diff(tc.want, c.Narrow(asked)); diff != "" {
			t.Errorf("%s: %s", tc.rule, diff)
		}
	}
}

func TestHostPolicy(t *testing.T) {
	listed := client.HostPolicy{Hosts: []string{"Claude.ai", "localhost", "cursor:"}}
	for _, tc := range []struct {
		rule           string
		policy         client.HostPolicy
		uri            string
		permits, names bool
	}{
		{"without a list all are permitted and none is known", client.HostPolicy{}, "https://any.example/cb", true, false},
		{"off permits nothing", client.HostPolicy{Off: true}, "https://claude.ai/cb", false, false},
		{"off keeps the list for what is known", client.HostPolicy{Off: true, Hosts: []string{"claude.ai"}}, "https://claude.ai/cb", false, true},

		{"a listed host", listed, "https://claude.ai/api/mcp/auth_callback", true, true},
		{"a listed host on another port", listed, "https://claude.ai:8443/cb", true, true},
		{"a host below a listed one", listed, "https://evil.claude.ai/cb", false, false},
		{"a host that ends alike", listed, "https://notclaude.ai/cb", false, false},
		{"a host that begins alike", listed, "https://claude.ai.evil.example/cb", false, false},
		{"loopback by name", listed, "http://localhost:1/cb", true, true},
		{"loopback by address", listed, "http://127.0.0.1:1/cb", true, true},
		{"IPv6 loopback", listed, "http://[::1]/cb", true, true},
		{"a listed scheme", listed, "cursor://anysphere.cursor-mcp/cb", true, true},
		{"a private scheme with a listed host", listed, "evil://claude.ai/cb", false, false},
		{"a private scheme that begins alike", listed, "cursorx://a/cb", false, false},
		{"loopback that is not listed", client.HostPolicy{Hosts: []string{"claude.ai"}}, "http://localhost/cb", false, false},
		{"what cannot be parsed", listed, "https://claude.ai/%zz", false, false},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			if permits, names := tc.policy.Permits(tc.uri), tc.policy.Names(tc.uri); permits != tc.permits || names != tc.names {
				t.Errorf("Permits %v, Names %v; want %v, %v", permits, names, tc.permits, tc.names)
			}
		})
	}
}
