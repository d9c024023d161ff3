package respond_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/respond"
)

// wantHeaders demands these headers; "" demands that there is none.
func wantHeaders(t *testing.T, h http.Header, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got := strings.Join(h.Values(name), ", "); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
}

func TestJSON(t *testing.T) {
	w := httptest.NewRecorder()
	respond.JSON(w, http.StatusCreated, map[string]string{"a": "<b>"})
	if w.Code != http.StatusCreated || w.Body.String() != `{"a":"\u003cb\u003e"}` {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	wantHeaders(t, w.Header(), map[string]string{
		"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Content-Length": "21",
	})
}

func TestWhatCannotBeMarshalledIsAServerError(t *testing.T) {
	w := httptest.NewRecorder()
	respond.JSON(w, http.StatusOK, make(chan int))
	if w.Code != http.StatusInternalServerError || w.Body.String() != `{"error":"server_error"}` {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

func TestCacheControlOfTheCallerStays(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set("Cache-Control", "max-age=60")
	respond.Raw(w, http.StatusOK, []byte(`{}`))
	wantHeaders(t, w.Header(), map[string]string{"Cache-Control": "max-age=60"})
}

func TestError(t *testing.T) {
	secret := errors.New("dial 10.0.0.1: password hunter2")
	for _, tc := range []struct {
		rule   string
		err    *oauth.Error
		status int
		body   string
		after  string
	}{
		{"a refusal", oauth.InvalidGrant("the code is unknown"), 400, `{"error":"invalid_grant","error_description":"the code is unknown"}`, ""},
		{"an unknown client", oauth.InvalidClient("x"), 401, `{"error":"invalid_client","error_description":"x"}`, ""},
		{"the cause stays here", oauth.TemporarilyUnavailable(secret), 503, `{"error":"temporarily_unavailable","error_description":"try again in a moment"}`, "2"},
		{"the cause of our own faults stays here", oauth.ServerError(secret), 500, `{"error":"server_error","error_description":"the server could not handle the request"}`, ""},
		{"a limit names its time", oauth.TooManyRequests("slow down", 30), 429, `{"error":"temporarily_unavailable","error_description":"slow down"}`, "30"},
		{"a refusal that was made for a redirect has no status", &oauth.Error{Code: "request_not_supported"}, 400, `{"error":"request_not_supported"}`, ""},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			w := httptest.NewRecorder()
			respond.Error(w, tc.err)
			if w.Code != tc.status || w.Body.String() != tc.body {
				t.Errorf("got  %d %s\nwant %d %s", w.Code, w.Body, tc.status, tc.body)
			}
			wantHeaders(t, w.Header(), map[string]string{"Retry-After": tc.after, "Cache-Control": "no-store"})
		})
	}
}

func TestNotFoundIsJSONForAllOrigins(t *testing.T) {
	w := httptest.NewRecorder()
	respond.NotFound(w)
	if w.Code != http.StatusNotFound || !strings.HasPrefix(w.Body.String(), `{"error":"not_found"`) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	wantHeaders(t, w.Header(), map[string]string{"Access-Control-Allow-Origin": "*", "Content-Type": "application/json"})
}

func TestMethodNotAllowedNamesTheMethods(t *testing.T) {
	w := httptest.NewRecorder()
	respond.MethodNotAllowed(w, http.MethodGet, http.MethodPost)
	if w.Code != http.StatusMethodNotAllowed || !strings.Contains(w.Body.String(), "use GET or POST") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	wantHeaders(t, w.Header(), map[string]string{"Allow": "GET, POST"})
}

func TestCORSNeverAllowsCredentials(t *testing.T) {
	for _, tc := range []struct{ origin, vary string }{{"*", ""}, {"https://app.example", "Origin"}} {
		w := httptest.NewRecorder()
		respond.CORS(w, tc.origin)
		wantHeaders(t, w.Header(), map[string]string{
			"Access-Control-Allow-Origin": tc.origin, "Vary": tc.vary, "Access-Control-Allow-Credentials": "",
			"Access-Control-Expose-Headers": "WWW-Authenticate, Mcp-Session-Id, Retry-After",
		})
	}
}

func TestPreflight(t *testing.T) {
	const always = "Authorization, Content-Type, Accept, MCP-Protocol-Version, Mcp-Session-Id, Mcp-Method, Mcp-Name, Last-Event-ID"
	for _, tc := range []struct{ rule, requested, want string }{
		{"nothing asked", "", always},
		{"what is allowed anyhow", "authorization, content-type", always},
		{"a parameter of a tool", "mcp-param-region, authorization", always + ", mcp-param-region"},
		{"in any case", "Mcp-Param-Region", always + ", Mcp-Param-Region"},
		{"another header", "cookie, x-forwarded-for, x-mcp-user", always},
		{"a name that is too long", "mcp-param-" + strings.Repeat("a", 60), always},
		{"bytes that no name has", "mcp-param-a b, mcp-param-\"x, mcp-param-é, mcp-param-a:b", always},
		{"at most sixteen", strings.Repeat("mcp-param-a,", 100), always + strings.Repeat(", mcp-param-a", 16)},
		{"commas only", strings.Repeat(",", 5000), always},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodOptions, "/mcp", nil)
			r.Header.Set("Access-Control-Request-Headers", tc.requested)
			w := httptest.NewRecorder()
			respond.Preflight(w, r, "*")
			if w.Code != http.StatusNoContent || w.Body.Len() != 0 {
				t.Errorf("got %d %q", w.Code, w.Body)
			}
			wantHeaders(t, w.Header(), map[string]string{
				"Access-Control-Allow-Headers": tc.want, "Access-Control-Allow-Methods": "GET, POST, DELETE, OPTIONS",
				"Access-Control-Allow-Origin": "*", "Vary": "Access-Control-Request-Headers", "Access-Control-Allow-Credentials": "",
			})
		})
	}
}
