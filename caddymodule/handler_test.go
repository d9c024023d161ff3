package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// serveDirect sends a request to a handler without a web server.
func serveDirect(t testing.TB, h *Handler, target string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	r := prepared(httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil), w)
	err := h.ServeHTTP(w, r, nothing)
	if fault, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		w.Code = fault.StatusCode
	} else if err != nil {
		t.Fatal(err)
	}
	return w
}

// nothing is what comes after the handler.
var nothing = caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })

// prepared gives a request what the web server gives to it.
func prepared(r *http.Request, w http.ResponseWriter) *http.Request {
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
}

// guarded returns the handler of a site with these lines, ready to serve.
func guarded(t testing.TB, lines string) *Handler {
	t.Helper()
	b := provisioned(t, "http://localhost:8080 {\nmcp_auth {\nstore memory\n"+lines+"}\n}")
	if err := b.app.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.app.Cleanup(); err != nil {
			t.Error(err)
		}
	})
	return b.app.handlers[0]
}

func TestNothingButEndpointsPassesWithoutAToken(t *testing.T) {
	h := guarded(t, alice+"bearer_token dev_token_12345\nresource /mcp\n")
	for _, tt := range []struct {
		rule, target, token string
		want                int // 299 when the next handler is reached
	}{
		{"the resource without a token", "/mcp", "", 401},
		{"below it", "/mcp/x", "", 401},
		{"the resource with a token", "/mcp", "dev_token_12345", 299},
		{"below it with a token", "/mcp/x", "dev_token_12345", 299},
		{"another path with a token", "/admin", "dev_token_12345", 404},
		{"a path that begins like it", "/mcpx", "dev_token_12345", 404},
		{"capitals", "/MCP", "dev_token_12345", 404},
		{"an encoded slash", "/mcp%2fx", "dev_token_12345", 400},
		{"dots", "/health/../mcp", "", 400},
		{"a doubled slash", "//mcp", "dev_token_12345", 400},
		{"a semicolon", "/mcp;/health", "dev_token_12345", 400},
		{"an endpoint", "/health", "", 200},
		{"an endpoint with a slash", "/health/", "", 404},
		{"below an endpoint", "/health/mcp", "", 404},
		{"the landing page", "/", "", 200},
		{"metadata of the resource", "/.well-known/oauth-protected-resource/mcp", "", 200},
		{"metadata of the issuer", "/.well-known/oauth-authorization-server", "", 200},
		{"other well-known documents", "/.well-known/openid-configuration", "dev_token_12345", 404},
		{"well-known documents below the resource", "/mcp/.well-known/x", "dev_token_12345", 404},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			w := httptest.NewRecorder()
			r := prepared(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost:8080"+tt.target, nil), w)
			if tt.token != "" {
				r.Header.Set("Authorization", "Bearer "+tt.token)
			}
			err := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
				w.WriteHeader(299)
				return nil
			}))
			if err != nil || w.Code != tt.want {
				t.Errorf("GET %s: got %d and the error %v, want %d", tt.target, w.Code, err, tt.want)
			}
		})
	}
}

// A site that cannot be built lets nobody in.
func TestASiteThatCannotBeBuiltServesNothing(t *testing.T) {
	b := provisioned(t, "http://localhost:8080 {\nmcp_auth {\nstore memory\nauth_type oauth2.1\n}\n}")
	for range 2 {
		for _, path := range []string{"/mcp", "/health", "/"} {
			if w := serveDirect(t, b.app.handlers[0], "http://localhost:8080"+path); w.Code != http.StatusServiceUnavailable {
				t.Errorf("%s is answered %d, want 503", path, w.Code)
			}
		}
	}
	if err := b.app.Start(); err == nil {
		t.Error("the app starts")
	}
}

func TestErrorsOfTheUpstreamAreLeftToTheWebServer(t *testing.T) {
	h := guarded(t, "bearer_token dev_token_12345\n")
	w := httptest.NewRecorder()
	r := prepared(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost:8080/mcp", nil), w)
	r.Header.Set("Authorization", "Bearer dev_token_12345")
	want := caddyhttp.Error(http.StatusBadGateway, errors.New("the upstream is away"))
	got := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return want }))
	if got.Error() != want.Error() {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRequestsForAnotherHostAreMisdirected(t *testing.T) {
	m := newMachine(t)
	m.mustLoad("mcp_auth {\nstore memory\nbearer_token dev_token_12345\n}",
		":%[1]d {\nmcp_auth {\nissuer http://mcp.localhost:%[1]d\n}\nrespond ok\n}\n"+
			"http://*.example.localhost:%[2]d {\nmcp_auth {\nissuer http://a.example.localhost:%[2]d\n}\nrespond ok\n}")
	for _, tt := range []struct {
		rule, origin, path string
		want               int
	}{
		{"the host of the issuer", m.url("mcp.localhost", 1), "/mcp", 200},
		{"a name that was made to point here", m.url("evil.localhost", 1), "/mcp", 421},
		{"its metadata", m.url("evil.localhost", 1), "/.well-known/oauth-protected-resource", 421},
		{"a health check by address", m.url("127.0.0.1", 1), "/health", 200},
		{"the host of the issuer below a wildcard", m.url("a.example.localhost", 2), "/mcp", 200},
		{"another host below the wildcard", m.url("b.example.localhost", 2), "/mcp", 421},
	} {
		m.status(tt.rule, tt.origin+tt.path, "dev_token_12345", tt.want)
	}
	if !strings.Contains(m.logs(), errHost.Error()) {
		t.Error("the log does not say why")
	}
}

func TestATrustedProxyMayUseAnotherHost(t *testing.T) {
	m := newMachine(t)
	m.mustLoad("mcp_auth {\nstore memory\nbearer_token dev_token_12345\n}\nservers {\ntrusted_proxies static 127.0.0.1/32\n}",
		":%[1]d {\nmcp_auth {\nissuer https://mcp.example.com\n}\nrespond ok\n}")
	m.status("through the proxy", m.url("inside.localhost", 1)+"/mcp", "dev_token_12345", http.StatusOK)
	r := m.request(m.url("inside.localhost", 1)+"/.well-known/oauth-protected-resource/mcp", "", nil)
	r.Header.Set("X-Forwarded-Host", "evil.example")
	r.Header.Set("X-Forwarded-Proto", "http")
	if got := m.do(r).json(t, "resource"); got != "https://mcp.example.com/mcp" {
		t.Errorf("the request has a say in the metadata: %v", got)
	}
}

// BenchmarkServeHTTP is what the front door adds to a request whose token is
// known: compare "token" and "static" with "bare".
func BenchmarkServeHTTP(b *testing.B) {
	h := guarded(b, robot+"auth_type both\nbearer_token dev_token_12345\n")
	issued := benchToken(b, h)
	for _, bm := range []struct{ name, token string }{{"bare", ""}, {"static", "dev_token_12345"}, {"token", issued}} {
		b.Run(bm.name, func(b *testing.B) {
			w := httptest.NewRecorder()
			base := prepared(httptest.NewRequestWithContext(b.Context(), http.MethodPost, "http://localhost:8080/mcp", nil), w)
			authorization := []string{"Bearer " + bm.token}
			b.ReportAllocs()
			for b.Loop() {
				// Each request has a replacer of its own.
				r := base.WithContext(context.WithValue(base.Context(), caddy.ReplacerCtxKey, caddy.NewReplacer()))
				r.Header["Authorization"] = authorization
				var err error
				if bm.token == "" {
					err = nothing(w, r)
				} else {
					err = h.ServeHTTP(w, r, nothing)
				}
				if err != nil || w.Code != http.StatusOK {
					b.Fatal(err, w.Code)
				}
			}
		})
	}
}

// benchToken gets an access token by the client credentials of robot.
func benchToken(b *testing.B, h *Handler) string {
	b.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "http://localhost:8080/token",
		strings.NewReader("grant_type=client_credentials"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("robot", "robot-secret-1234")
	if err := h.ServeHTTP(w, prepared(r, w), nothing); err != nil {
		b.Fatal(err)
	}
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.AccessToken == "" {
		b.Fatalf("%v: %s", err, w.Body)
	}
	return answer.AccessToken
}
