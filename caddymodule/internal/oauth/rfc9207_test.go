package oauth_test

import (
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

func TestAuthorizationResponseURL(t *testing.T) {
	const iss = "https://h.example"
	for _, tc := range []struct {
		rule        string
		answer      oauth.AuthorizationResponse
		redirectURI string
		want        string
	}{
		{
			"a code with state and issuer",
			oauth.AuthorizationResponse{Code: "abc", State: "xyz", Issuer: iss}, "https://app.example/cb",
			"https://app.example/cb?code=abc&state=xyz&iss=https%3A%2F%2Fh.example",
		},
		{
			"an error has the issuer too",
			oauth.AuthorizationResponse{Error: "access_denied", ErrorDescription: "the user said no", State: "xyz", Issuer: iss}, "cursor://x/cb",
			"cursor://x/cb?error=access_denied&error_description=the%20user%20said%20no&state=xyz&iss=https%3A%2F%2Fh.example",
		},
		{
			"no state, no parameter",
			oauth.AuthorizationResponse{Code: "abc", Issuer: iss}, "https://app.example/cb",
			"https://app.example/cb?code=abc&iss=https%3A%2F%2Fh.example",
		},
		{
			"a query of the URI is kept byte for byte",
			oauth.AuthorizationResponse{Code: "abc"}, "https://app.example/cb?b=%7e&a=1;2",
			"https://app.example/cb?b=%7e&a=1;2&code=abc",
		},
		{
			"state cannot add parameters or a fragment",
			oauth.AuthorizationResponse{Code: "abc", State: "x&code=evil#f \r\n%00"}, "https://app.example/cb",
			"https://app.example/cb?code=abc&state=x%26code%3Devil%23f%20%0D%0A%2500",
		},
		{"no path", oauth.AuthorizationResponse{Code: "abc"}, "http://localhost:1", "http://localhost:1?code=abc"},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			if got := tc.answer.URL(tc.redirectURI); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func FuzzAuthorizationResponse(f *testing.F) {
	f.Add("https://app.example/cb?x=1", "abc", "state & more")
	f.Add("com.example:/x", "", "\x00é#")
	f.Fuzz(func(t *testing.T, redirectURI, code, state string) {
		if oauth.CheckRedirectURI(redirectURI) != nil {
			return
		}
		before, err := url.Parse(redirectURI)
		if err != nil {
			t.Fatal(err)
		}
		after, err := url.Parse(oauth.AuthorizationResponse{Code: code, State: state, Issuer: "https://h.example"}.URL(redirectURI))
		if err != nil {
			t.Fatal(err)
		}
		if before.Scheme != after.Scheme || before.Host != after.Host || before.EscapedPath() != after.EscapedPath() || after.Fragment != "" {
			t.Fatalf("%s has become another place: %s", before, after)
		}
		own, _ := url.ParseQuery(before.RawQuery)
		got, _ := url.ParseQuery(after.RawQuery)
		for name, value := range map[string]string{"code": code, "state": state, "iss": "https://h.example"} {
			if value != "" {
				own[name] = append(own[name], value)
			}
		}
		if diff := cmp.Diff(own, got); diff != "" {
			t.Fatalf("the parameters are not what was put in: %s", diff)
		}
	})
}
