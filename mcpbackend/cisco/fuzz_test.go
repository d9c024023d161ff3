package cisco

import (
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/bugs"
)

// Whatever the API answers, the explanation is short, on one line, and free of the token and of addresses.
func FuzzRefusal(f *testing.F) {
	f.Add(400, []byte(`{"ErrorResponse":{"APIError":[{"ErrorDescription":"bad tok-secret https://x/y","SuggestedAction":"none"}]}}`))
	f.Add(403, []byte(`<h1>Developer Inactive</h1>`))
	f.Add(404, []byte(`tok-tok-secretsecret`))
	f.Add(401, []byte("\xff<\x00>"))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		const token = "tok-secret"
		text := refusal(answer{status: status, body: body}, token).Error()
		if len([]rune(text)) > 2*maxSaid+200 || strings.ContainsAny(text, "\n\r\x00\x1b") {
			t.Errorf("unfit text %q", text)
		}
		if strings.Contains(text, token) || strings.Contains(text, "://") {
			t.Errorf("leak in %q", text)
		}
	})
}

// Whatever is searched for stays one element of the path, below the API's base.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"memory leak", "..", "a/../../b", "?x=1", "#", "%2e%2e", "a,b", "\x00", ";"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, keyword string) {
		c := &Client{base: "https://api.example/bug/v2.0"}
		address, err := c.address(bugs.Query{Kind: bugs.ByKeyword, Keyword: keyword})
		if err != nil {
			if strings.Trim(keyword, ".") != "" {
				t.Errorf("%q refused: %v", keyword, err)
			}
			return
		}
		u, err := url.Parse(address)
		if err != nil {
			t.Fatalf("%q became %q: %v", keyword, address, err)
		}
		if u.Host != "api.example" || u.RawQuery != "page_index=1" || u.Path != "/bug/v2.0/bugs/keyword/"+keyword {
			t.Errorf("%q became %q", keyword, address)
		}
		if escaped := strings.TrimPrefix(u.EscapedPath(), "/bug/v2.0/bugs/keyword/"); strings.Contains(escaped, "/") {
			t.Errorf("%q became several path elements: %q", keyword, escaped)
		}
	})
}
