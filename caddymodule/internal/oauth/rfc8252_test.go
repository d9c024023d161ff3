package oauth_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// tooLong is a redirect URI beyond the bound.
var tooLong = "https://app.example/" + strings.Repeat("a", oauth.MaxRedirectURILength)

var redirectURICases = []struct {
	rule string
	uri  string
	want string // the text of the refusal; "" for none
}{
	// What clients in the field register.
	{"claude.ai", "https://claude.ai/api/mcp/auth_callback", ""},
	{"ChatGPT with an id in the path", "https://chatgpt.com/connector/oauth/abc-123_x", ""},
	{"VS Code on the web", "https://insiders.vscode.dev/redirect", ""},
	{"VS Code loopback without a port", "http://127.0.0.1/", ""},
	{"VS Code loopback with its port", "http://127.0.0.1:33418/", ""},
	{"Claude Code without a port", "http://localhost/callback", ""},
	{"mcp-remote", "http://localhost:21033/oauth/callback", ""},
	{"Cursor, a scheme without a dot", "cursor://anysphere.cursor-mcp/oauth/callback", ""},
	{"a reversed domain with one slash", "com.example:/x", ""},
	{"a reversed domain with three slashes", "com.example.app:///callback", ""},
	{"a query is part of the URI", "https://app.example/cb?tenant=1", ""},
	{"a percent-encoded path", "https://app.example/c%20b", ""},
	{"a host with a port", "https://app.example:8443/cb", ""},
	{"IPv6 loopback over http", "http://[::1]:3000/cb", ""},
	{"an IPv6 host over https", "https://[2001:db8::1]/cb", ""},
	{"the highest port", "http://127.0.0.1:65535/", ""},

	{"empty", "", "is empty"},
	{"too long", tooLong, "is longer than 2048 bytes"},

	// Bytes that parsers disagree about.
	{"a wildcard host", "https://*.example.com/cb", "has a character"},
	{"a wildcard path", "https://app.example/*", "has a character"},
	{"a backslash as path separator", `https://app.example\@evil.example/`, "has a character"},
	{"a backslash in the authority of loopback", `http://127.0.0.1\.evil.example/`, "has a character"},
	{"a line feed", "https://app.example/\ncb", "has a character"},
	{"a NUL", "https://app.example/\x00", "has a character"},
	{"a tab inside a scheme", "java\tscript:alert(1)", "has a character"},
	{"a leading space", " https://app.example/", "has a character"},
	{"a non-ASCII host", "https://аpp.example/", "has a character"},
	{"DEL", "https://app.example/\x7f", "has a character"},
	{"a quote that would leave an attribute", `https://app.example/"onload=`, "has a character"},
	{"an angle bracket", "https://app.example/<script>", "has a character"},
	{"a fragment", "https://app.example/cb#x", "has a fragment"},
	{"an empty fragment", "https://app.example/cb#", "has a fragment"},

	// What is no absolute URI.
	{"a relative reference", "/callback", "is not an absolute URI"},
	{"a network-path reference", "//evil.example/cb", "is not an absolute URI"},
	{"a scheme that begins with a digit", "1https://app.example/", "is not an absolute URI"},
	{"a broken escape", "https://app.example/%zz", "is not an absolute URI"},
	{"an escape in the host", "https://app%2eexample/", "is not an absolute URI"},
	{"an escaped slash in the host", "https://app.example%2fevil.example/", "is not an absolute URI"},
	{"an escaped slash in user information", "https://app.example%2f@evil.example/", "has user information"},
	{"a port with a sign", "https://app.example:+80/", "is not an absolute URI"},
	{"a port that is a word", "https://app.example:http/", "is not an absolute URI"},
	{"an IPv6 address without brackets", "http://::1/cb", "is not an absolute URI"},
	{"an upper-case scheme", "HTTPS://app.example/", "has an upper-case scheme"},
	{"a mixed-case dangerous scheme", "JavaScript:alert(1)", "has an upper-case scheme"},

	// User information hides the host from the eye.
	{"user information", "https://claude.ai@evil.example/", "has user information"},
	{"empty user information", "https://@evil.example/", "has user information"},
	{"a password", "https://a:b@app.example/", "has user information"},
	{"loopback as user information", "http://127.0.0.1@evil.example/", "has user information"},
	{"loopback and port as user information", "http://127.0.0.1:80@evil.example/", "has user information"},
	{"user information of a private scheme", "cursor://claude.ai@evil/cb", "has user information"},

	// Hosts and ports.
	{"no host", "https:///cb", "has no host"},
	{"an opaque https URI", "https:app.example", "has no host"},
	{"a path instead of a host", "https:/app.example/cb", "has no host"},
	{"a port without a host", "https://:443/cb", "has no valid host"},
	{"a leading dot", "https://.example.com/", "has no valid host"},
	{"an empty label", "https://app..example/", "has no valid host"},
	{"a sub-delimiter in the host", "https://app,example/", "has no valid host"},
	{"an IPv6 zone", "https://[fe80::1%25eth0]/cb", "has no valid host"},
	{"port 0", "https://app.example:0/", "has no valid port"},
	{"port 65536", "https://app.example:65536/", "has no valid port"},
	{"a port with a leading zero", "http://127.0.0.1:080/", "has no valid port"},
	{"an empty port", "https://app.example:/cb", "has no valid port"},
	{"an empty port on loopback", "http://localhost:/cb", "has no valid port"},

	// Plain http goes to the three spellings of loopback only.
	{"http to a name", "http://app.example/cb", "uses http for a host other"},
	{"http to a name that begins like loopback", "http://localhost.evil.com/cb", "uses http for a host other"},
	{"http to an address that begins like loopback", "http://127.0.0.1.evil.com/cb", "uses http for a host other"},
	{"http to another loopback address", "http://127.0.0.2/cb", "uses http for a host other"},
	{"http to a short form of loopback", "http://127.1/cb", "uses http for a host other"},
	{"http to a decimal form of loopback", "http://2130706433/cb", "uses http for a host other"},
	{"http to the tooLong form of ::1", "http://[0:0:0:0:0:0:0:1]/cb", "uses http for a host other"},
	{"http to mapped loopback", "http://[::ffff:127.0.0.1]/cb", "uses http for a host other"},
	{"http to LOCALHOST", "http://LOCALHOST/cb", "uses http for a host other"},
	{"http to localhost with a final dot", "http://localhost./cb", "uses http for a host other"},
	{"http to a name below localhost", "http://app.localhost/cb", "uses http for a host other"},
	{"http to the unspecified address", "http://0.0.0.0/cb", "uses http for a host other"},

	// Schemes that do something else than call an app back.
	{"javascript", "javascript:alert(1)", "has a scheme that is not allowed"},
	{"javascript with slashes", "javascript://app.example/%0aalert(1)", "has a scheme that is not allowed"},
	{"data", "data:text/html,x", "has a scheme that is not allowed"},
	{"file", "file:///etc/passwd", "has a scheme that is not allowed"},
	{"vbscript", "vbscript:x", "has a scheme that is not allowed"},
	{"blob", "blob:https://app.example/1", "has a scheme that is not allowed"},
	{"about", "about:blank", "has a scheme that is not allowed"},
	{"a web socket", "wss://app.example/cb", "has a scheme that is not allowed"},
	{"ftp", "ftp://app.example/cb", "has a scheme that is not allowed"},
	{"a URN", "urn:ietf:wg:oauth:2.0:oob", "has a scheme that is not allowed"},
	{"an Office protocol", "ms-word:ofe|u|x", "has a character"},
	{"a Windows protocol", "ms-settings://x/y", "has a scheme that is not allowed"},
	{"a drive letter", "c:/windows", "has a scheme that is not allowed"},
	{"an opaque private-use URI", "com.example:x", "names no place"},
	{"a private-use scheme alone", "com.example:/", "names no place"},
	{"a private-use scheme with an empty host", "cursor://", "names no place"},
}

func TestCheckRedirectURI(t *testing.T) {
	for _, tc := range redirectURICases {
		t.Run(tc.rule, func(t *testing.T) {
			err := oauth.CheckRedirectURI(tc.uri)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("%q is refused: it %v", tc.uri, err)
			case tc.want != "" && err == nil:
				t.Errorf("%q is accepted, want %q", tc.uri, tc.want)
			case tc.want != "" && !strings.HasPrefix(err.Error(), tc.want):
				t.Errorf("%q is refused because it %v, want %q", tc.uri, err, tc.want)
			}
		})
	}
}

func TestMatchRedirectURI(t *testing.T) {
	for _, tc := range []struct {
		rule                  string
		registered, requested string
		want                  bool
	}{
		{"the same string", "https://app.example/cb", "https://app.example/cb", true},
		{"the same private-use URI", "cursor://x/cb", "cursor://x/cb", true},
		{"a portless registration stands for any port", "http://localhost/callback", "http://localhost:52817/callback", true},
		{"a registered port stands for any other", "http://127.0.0.1:33418/", "http://127.0.0.1:49152/", true},
		{"a registered port stands for none", "http://127.0.0.1:33418/", "http://127.0.0.1/", true},
		{"any port of IPv6 loopback", "http://[::1]:1/cb", "http://[::1]:2/cb", true},
		{"an empty path and a query", "http://localhost?a=1", "http://localhost:8080?a=1", true},

		{"localhost is not 127.0.0.1", "http://localhost/cb", "http://127.0.0.1/cb", false},
		{"127.0.0.1 is not localhost", "http://127.0.0.1:1/cb", "http://localhost:1/cb", false},
		{"[::1] is not 127.0.0.1", "http://[::1]/cb", "http://127.0.0.1/cb", false},
		{"another path on loopback", "http://localhost/cb", "http://localhost:1/cb2", false},
		{"a path that continues", "http://localhost/cb", "http://localhost:1/cb/x", false},
		{"a trailing slash", "http://localhost:1/cb", "http://localhost:2/cb/", false},
		{"a query that was not registered", "http://localhost/cb", "http://localhost/cb?x=1", false},
		{"a query that is missing", "http://localhost/cb?x=1", "http://localhost/cb", false},
		{"a path in other case", "http://localhost/CB", "http://localhost:1/cb", false},
		{"https on loopback has no free port", "https://localhost/cb", "https://localhost:1/cb", false},
		{"https elsewhere has no free port", "https://app.example/cb", "https://app.example:8443/cb", false},
		{"the default port spelled out", "https://app.example/cb", "https://app.example:443/cb", false},
		{"another host", "https://app.example/cb", "https://evil.example/cb", false},
		{"a host in other case", "https://app.example/cb", "https://App.example/cb", false},
		{"a dot segment", "https://app.example/cb", "https://app.example/x/../cb", false},
		{"an encoded letter", "https://app.example/cb", "https://app.example/%63b", false},
		{"another scheme on loopback", "http://localhost/cb", "https://localhost/cb", false},
		{"a private-use scheme has no free port", "cursor://localhost/cb", "cursor://localhost:1/cb", false},

		{"a host that begins like loopback", "http://localhost/cb", "http://localhost.evil.com/cb", false},
		{"loopback as user information", "http://127.0.0.1/cb", "http://127.0.0.1@evil.com/cb", false},
		{"loopback and port as user information", "http://127.0.0.1/cb", "http://127.0.0.1:80@evil.com/cb", false},
		{"port 0", "http://localhost/cb", "http://localhost:0/cb", false},
		{"port 65536", "http://localhost/cb", "http://localhost:65536/cb", false},
		{"a port with a sign", "http://localhost/cb", "http://localhost:+80/cb", false},
		{"a port with a leading zero", "http://localhost/cb", "http://localhost:080/cb", false},
		{"an empty port", "http://localhost/cb", "http://localhost:/cb", false},
		{"two ports", "http://localhost/cb", "http://localhost:1:2/cb", false},
		{"an empty registration", "", "http://localhost/cb", false},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			if got := oauth.MatchRedirectURI(tc.registered, tc.requested); got != tc.want {
				t.Errorf("MatchRedirectURI(%q, %q) = %v, want %v", tc.registered, tc.requested, got, tc.want)
			}
		})
	}
}

func TestIsLoopbackRedirect(t *testing.T) {
	for _, tc := range []struct {
		uri, port string
		want      bool
	}{
		{"http://localhost/cb", "", true},
		{"http://127.0.0.1:33418/", "33418", true},
		{"http://[::1]:5/", "5", true},
		{"https://localhost/cb", "", false},
		{"http://localhost.evil.com/cb", "", false},
		{"cursor://localhost/cb", "", false},
	} {
		if port, ok := oauth.IsLoopbackRedirect(tc.uri); ok != tc.want || port != tc.port {
			t.Errorf("IsLoopbackRedirect(%q) = %q, %v; want %q, %v", tc.uri, port, ok, tc.port, tc.want)
		}
	}
}

func FuzzRedirectURI(f *testing.F) {
	for _, pair := range [][2]string{
		{"http://localhost/callback", "http://localhost:52817/callback"},
		{"http://127.0.0.1:1/", "http://127.0.0.1:80@evil.example/"},
		{"https://app.example/cb?x", "https://app.example/cb?x"},
		{"cursor://anysphere.cursor-mcp/oauth/callback", "com.example:/x"},
		{"http://[::1]?a", "http://[::1]:9?a"},
		{"http://localhost", "http://localhost:1"},
		{"https://[fe80::1%25eth0]/", "https://a:0/"},
	} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, registered, requested string) {
		accepted := oauth.CheckRedirectURI(registered) == nil
		if accepted {
			checkAccepted(t, registered)
		}
		if !accepted || !oauth.MatchRedirectURI(registered, requested) {
			return
		}
		// A port may make the request longer than what can be registered.
		if err := oauth.CheckRedirectURI(requested); err != nil && len(requested) <= oauth.MaxRedirectURILength {
			t.Fatalf("%q matches %q, but it %v", requested, registered, err)
		}
		a, errA := url.Parse(registered)
		b, errB := url.Parse(requested)
		if errA != nil || errB != nil {
			t.Fatalf("%q matches %q, and one cannot be parsed", requested, registered)
		}
		if a.Scheme != b.Scheme || a.Hostname() != b.Hostname() || a.EscapedPath() != b.EscapedPath() || a.RawQuery != b.RawQuery {
			t.Fatalf("%q matches %q, which is another place", requested, registered)
		}
		if a.Port() != b.Port() && a.Scheme != "http" {
			t.Fatalf("%q matches %q on another port", requested, registered)
		}
	})
}

// checkAccepted holds what is true of every redirect URI that may be registered.
func checkAccepted(t *testing.T, uri string) {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatalf("%q is accepted, but %v", uri, err)
	}
	if u.User != nil || u.Fragment != "" || strings.ContainsAny(uri, "#\\* \t\r\n\"<>") {
		t.Fatalf("%q is accepted with user information, a fragment or a byte that leaves its place", uri)
	}
	if u.Scheme != "http" {
		return
	}
	if host := u.Hostname(); host != "localhost" && host != "127.0.0.1" && host != "::1" {
		t.Fatalf("%q is accepted and goes to %q without TLS", uri, host)
	}
	if !oauth.MatchRedirectURI(uri, uri) {
		t.Fatalf("%q does not match itself", uri)
	}
}
