package authserver_test

import (
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
)

// everything is a server with all endpoints that there are.
func everything(t *testing.T) *site {
	t.Helper()
	return newSite(t, withProvider(newProvider()), asking, withDevices)
}

// Whatever the request, the answers of an endpoint tell browsers what the table of
// guards says.
func TestEveryEndpointKeepsItsGuard(t *testing.T) {
	s := everything(t)
	protected := map[string]string{
		"Content-Security-Policy": "frame-ancestors 'none'", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cross-Origin-Resource-Policy": "same-origin",
		"Permissions-Policy": "camera=()",
	}
	for path, guard := range s.Guards() {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions, http.MethodDelete} {
			var body any
			if method == http.MethodPost {
				body = url.Values{}
			}
			r := request(method, path, body)
			r.Header.Set("Origin", "https://other.example")
			r.Header.Set("Access-Control-Request-Method", "POST")
			h := s.serve(r).Header
			open := h.Get("Access-Control-Allow-Origin")
			if h.Get("Access-Control-Allow-Credentials") != "" || open != "" && open != "*" {
				t.Errorf("%s %s: pages of others may send cookies", method, path)
			}
			if guard == "programs" != (open == "*") {
				t.Errorf("%s %s is for %s, and Access-Control-Allow-Origin is %q", method, path, guard, open)
			}
			for name, part := range protected {
				if guard == "people" && !strings.Contains(h.Get(name), part) {
					t.Errorf("%s %s: %s is %q", method, path, name, h.Get(name))
				}
			}
		}
	}
}

func TestNoFormOfAnotherSiteGetsThrough(t *testing.T) {
	s := everything(t)
	for path, guard := range s.Guards() {
		if guard != "people" {
			continue
		}
		before := len(s.store.Calls())
		for _, from := range []string{"cross-site", "same-site"} {
			r := request(http.MethodPost, path, url.Values{"token": {"x"}})
			r.Header.Set("Sec-Fetch-Site", from)
			if resp := s.serve(r); resp.StatusCode != http.StatusForbidden && resp.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("a %s form for %s: %d", from, path, resp.StatusCode)
			}
		}
		if calls := s.store.Calls()[before:]; len(calls) > 0 {
			t.Errorf("a form for %s of another site made %v", path, calls)
		}
	}
}

// The table in the manual is the one in the code.
func TestTheManualHasTheSameTable(t *testing.T) {
	manual, err := os.ReadFile("../../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	guards := everything(t).Guards()
	maps.DeleteFunc(guards, func(path, _ string) bool { return strings.Contains(path, "/.well-known/") })
	told := map[string]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| \*\*(\w+)\*\*: ([^|]*)\|`).FindAllStringSubmatch(string(manual), -1) {
		for _, path := range regexp.MustCompile("`(/[^`]*)`").FindAllStringSubmatch(row[2], -1) {
			told[path[1]] = row[1]
		}
	}
	for _, path := range slices.Concat(authserver.Paths(), []string{"/"}) {
		if told[path] != guards[path] {
			t.Errorf("%s is for %q, and the manual says %q", path, guards[path], told[path])
		}
	}
}
