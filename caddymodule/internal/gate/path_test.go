package gate_test

import (
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/gate"
)

func TestPathsThatServersReadInDifferentWaysAreAmbiguous(t *testing.T) {
	for _, c := range []struct {
		path      string
		ambiguous bool
	}{
		{"/", false}, {"/mcp", false}, {"/mcp/", false}, {"/mcp/a.b", false}, {"/mcp/...", false}, {"/mcp/.a", false}, {"/.well-known/x", false},
		{"/a%20b", false}, {"/%E2%82%AC", false}, {"/a%3Fb", false}, {"/a%23b", false}, {"/~a/$&'()+,=:@", false}, {"/mcp%41", false},

		{"//mcp", true}, {"/mcp//", true}, {"/a//b", true},
		{"/./mcp", true}, {"/mcp/.", true}, {"/mcp/..", true}, {"/a/../mcp", true}, {"/..", true}, {"/mcp/./", true},
		{"/a%2Fmcp", true}, {"/a%2fmcp", true}, {"/%2e%2e/mcp", true}, {"/mcp/%2E", true}, {"/a%2e", true}, {"/.%2e/mcp", true},
		{"/a%5Cmcp", true}, {"/a%5cmcp", true}, {`/a\mcp`, true},
		{"/mcp;x=1", true}, {"/mcp%3Bx", true}, {"/..;/mcp", true},
		{"/mcp%00", true}, {"/mcp%0A", true}, {"/mcp%0d%0a", true}, {"/mcp%7f", true}, {"/mcp%09", true},
		{"/%252e%252e/mcp", true}, {"/mcp%25", true}, {"/mcp%252f", true},
		{"", true}, {"mcp", true}, {"*", true},
	} {
		u, err := url.Parse("https://mcp.example.com" + c.path)
		if !strings.HasPrefix(c.path, "/") {
			u, err = &url.URL{Path: c.path}, nil
		}
		if err != nil {
			t.Errorf("%q: %v", c.path, err)
			continue
		}
		if got := gate.AmbiguousPath(u); got != c.ambiguous {
			t.Errorf("%q: ambiguous is %v", c.path, got)
		}
	}
}

// A path is refused or means the same to everybody, and without a token none is
// ever let through.
func FuzzPath(f *testing.F) {
	d := newDoor(f)
	for _, p := range []string{"/mcp", "/mcp/../sse", "/mcp/admin", "/mcp%2fadmin", "/mcp/./admin", "//mcp", "/MCP", "/mcp;/admin", "/mcp/%61dmin", "/%25", "/mcp/admin%2e", "/mcp/aDm%69n/x"} {
		f.Add(p, "POST")
	}
	f.Fuzz(func(t *testing.T, raw, method string) {
		u, err := url.ParseRequestURI(raw)
		if err != nil || gate.AmbiguousPath(u) {
			return
		}
		if clean := path.Clean(u.Path); clean != strings.TrimSuffix(u.Path, "/") && clean != u.Path {
			t.Errorf("%q is let through, and others would read it as %q", raw, clean)
		}
		if again, err := url.PathUnescape(u.Path); err != nil || again != u.Path {
			t.Errorf("%q is let through, and whoever decodes it twice reads %q", raw, again)
		}
		if strings.Count(u.EscapedPath(), "/") != strings.Count(u.Path, "/") {
			t.Errorf("%q is let through and has separators in disguise", raw)
		}
		r := httptest.NewRequest("GET", "https://mcp.example.com/", nil)
		r.Method, r.URL = method, u
		w := httptest.NewRecorder()
		if pass, refused := d.Check(w, r, u.Path); refused == nil || pass.Claims != nil || w.Code == 200 {
			t.Errorf("%s %q is let through without a token", method, raw)
		}
		admin := u.Path == "/mcp/admin" || strings.HasPrefix(u.Path, "/mcp/admin/")
		r.Header.Set("Authorization", "Bearer "+staticToken)
		_, refused := d.Check(httptest.NewRecorder(), r, u.Path)
		if admin && refused != nil {
			t.Errorf("%q with a token for everything: %v", raw, refused.Reason)
		}
		if folded := strings.ToLower(u.Path) + "/"; !admin && strings.HasPrefix(folded, "/mcp/admin/") && refused == nil {
			t.Errorf("%q is let through as another resource than others take it for", raw)
		}
	})
}
