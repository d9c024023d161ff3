package oauth_test

import (
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

func TestBearerToken(t *testing.T) {
	for _, tc := range []struct {
		rule   string
		fields []string
		want   string
		err    error
	}{
		{"a token", []string{"Bearer abc.def-ghi_~+/=="}, "abc.def-ghi_~+/==", nil},
		{"the scheme in lower case", []string{"bearer abc"}, "abc", nil},
		{"the scheme in any case", []string{"bEaReR abc"}, "abc", nil},
		{"several spaces", []string{"Bearer   abc"}, "abc", nil},
		{"the longest token", []string{"Bearer " + strings.Repeat("a", oauth.MaxTokenLength)}, strings.Repeat("a", oauth.MaxTokenLength), nil},

		{"no header", nil, "", oauth.ErrNoCredentials},
		{"an empty header", []string{""}, "", oauth.ErrNoCredentials},
		{"another scheme", []string{"Basic YTpi"}, "", oauth.ErrNoCredentials},
		{"a scheme that begins alike", []string{"BearerX abc"}, "", oauth.ErrNoCredentials},
		{"a token without a scheme", []string{"abc"}, "", oauth.ErrNoCredentials},

		{"the scheme alone", []string{"Bearer"}, "", oauth.ErrMalformedCredentials},
		{"the scheme and spaces", []string{"Bearer   "}, "", oauth.ErrMalformedCredentials},
		{"two header fields", []string{"Bearer abc", "Bearer abc"}, "", oauth.ErrMalformedCredentials},
		{"two header fields of different schemes", []string{"Basic YTpi", "Bearer abc"}, "", oauth.ErrMalformedCredentials},
		{"a list", []string{"Bearer abc, Bearer def"}, "", oauth.ErrMalformedCredentials},
		{"two tokens", []string{"Bearer abc def"}, "", oauth.ErrMalformedCredentials},
		{"a quoted token", []string{`Bearer "abc"`}, "", oauth.ErrMalformedCredentials},
		{"a parameter", []string{"Bearer token=abc"}, "", oauth.ErrMalformedCredentials},
		{"nothing but padding", []string{"Bearer ==="}, "", oauth.ErrMalformedCredentials},
		{"padding in the middle", []string{"Bearer a=b"}, "", oauth.ErrMalformedCredentials},
		{"a tab", []string{"Bearer \tabc"}, "", oauth.ErrMalformedCredentials},
		{"a line break", []string{"Bearer abc\r\nX: y"}, "", oauth.ErrMalformedCredentials},
		{"a non-ASCII byte", []string{"Bearer ab\xff"}, "", oauth.ErrMalformedCredentials},
		{"one byte too long", []string{"Bearer " + strings.Repeat("a", oauth.MaxTokenLength+1)}, "", oauth.ErrMalformedCredentials},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			h := http.Header{}
			if tc.fields != nil {
				h["Authorization"] = tc.fields
			}
			got, err := oauth.BearerToken(h)
			if got != tc.want || !errors.Is(err, tc.err) {
				t.Errorf("BearerToken = %q, %v; want %q, %v", got, err, tc.want, tc.err)
			}
		})
	}
	t.Run("no other header is looked at", func(t *testing.T) {
		h := http.Header{"Proxy-Authorization": {"Bearer abc"}, "X-Forwarded-Access-Token": {"abc"}, "Cookie": {"token=abc"}}
		if got, err := oauth.BearerToken(h); !errors.Is(err, oauth.ErrNoCredentials) {
			t.Errorf("BearerToken = %q, %v; want ErrNoCredentials", got, err)
		}
	})
}

func FuzzBearerToken(f *testing.F) {
	for _, field := range []string{"Bearer abc", "bearer  a.b.c==", "Basic x", "Bearer a, Bearer b", "Bearer\tx", ""} {
		f.Add(field)
	}
	token := regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`)
	f.Fuzz(func(t *testing.T, field string) {
		got, err := oauth.BearerToken(http.Header{"Authorization": {field}})
		if err != nil {
			if got != "" || !errors.Is(err, oauth.ErrNoCredentials) && !errors.Is(err, oauth.ErrMalformedCredentials) {
				t.Fatalf("BearerToken(%q) = %q, %v", field, got, err)
			}
			return
		}
		if !token.MatchString(got) || len(got) > oauth.MaxTokenLength {
			t.Fatalf("BearerToken(%q) = %q, which is no b64token", field, got)
		}
		if len(field) < 7 || !strings.EqualFold(field[:7], "Bearer ") || strings.Trim(field[7:], " ") != got {
			t.Fatalf("BearerToken(%q) = %q, which is not all that follows the scheme", field, got)
		}
	})
}

func TestChallenge(t *testing.T) {
	const metadata = "https://h.example/.well-known/oauth-protected-resource/mcp"
	for _, tc := range []struct {
		rule      string
		challenge oauth.Challenge
		want      string
	}{
		{
			"without credentials there is no error",
			oauth.Challenge{ResourceMetadata: metadata, Scope: "mcp"},
			`Bearer resource_metadata="` + metadata + `", scope="mcp"`,
		},
		{
			"all parameters, each once and quoted",
			oauth.Challenge{Error: "insufficient_scope", ErrorDescription: "more is needed", ResourceMetadata: metadata, Scope: "a b"},
			`Bearer error="insufficient_scope", error_description="more is needed", resource_metadata="` + metadata + `", scope="a b"`,
		},
		{
			"a quote cannot end a value and begin a parameter",
			oauth.Challenge{Error: "invalid_token", ErrorDescription: `x", scope="admin`},
			`Bearer error="invalid_token", error_description="x, scope=admin"`,
		},
		{
			"a backslash cannot swallow the quote",
			oauth.Challenge{Error: "invalid_token", ErrorDescription: `x\`},
			`Bearer error="invalid_token", error_description="x"`,
		},
		{
			"a line break cannot begin a header",
			oauth.Challenge{Error: "invalid_token", ErrorDescription: "x\r\nSet-Cookie: a=b\u2028é"},
			`Bearer error="invalid_token", error_description="xSet-Cookie: a=b"`,
		},
		{"the scheme never stands alone", oauth.Challenge{}, `Bearer realm="mcp"`},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			if got := tc.challenge.String(); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

// Clients take the header apart in these ways; see the TypeScript SDK.
func TestChallengeIsReadByClientsThatSplitIt(t *testing.T) {
	header := oauth.Challenge{Error: "invalid_token", ResourceMetadata: "https://h.example/x", Scope: "a b"}.String()
	if scheme, _, _ := strings.Cut(header, " "); scheme != "Bearer" {
		t.Errorf("the first word is %q, want Bearer", scheme)
	}
	for name, want := range map[string]string{"resource_metadata": "https://h.example/x", "scope": "a b", "error": "invalid_token"} {
		found := regexp.MustCompile(name + `="([^"]+)"`).FindStringSubmatch(header)
		if found == nil || found[1] != want {
			t.Errorf("the expression for %s finds %q, want %q", name, found, want)
		}
	}
}
