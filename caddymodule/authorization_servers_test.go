package caddymodule

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// elsewhere is an authorization server of somebody else.
type elsewhere struct {
	t      *testing.T
	url    string
	signer jose.Signer
}

func newElsewhere(t *testing.T) *elsewhere {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	e := &elsewhere{t: t}
	mux := http.NewServeMux()
	serve := func(path string, v func() any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(v())
		})
	}
	serve("/.well-known/openid-configuration", func() any { return map[string]any{"issuer": e.url, "jwks_uri": e.url + "jwks"} })
	serve("/jwks", func() any {
		return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256"}}}
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	e.url = srv.URL + "/" // as Auth0 has it
	options := (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", "k")
	if e.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, options); err != nil {
		t.Fatal(err)
	}
	return e
}

// token makes a token for an audience; scope nil leaves it out.
func (e *elsewhere) token(aud string, scope any) string {
	e.t.Helper()
	claims := map[string]any{
		"iss": e.url, "sub": "auth0|1", "aud": aud, "azp": "app", "exp": time.Now().Unix() + 600,
		"email": "alice@example.com", "email_verified": true, "groups": []string{"staff", "ops"},
	}
	if scope != nil {
		claims["scope"] = scope
	}
	raw, err := jwt.Signed(e.signer).Claims(claims).Serialize()
	if err != nil {
		e.t.Fatal(err)
	}
	return raw
}

func TestTokensOfAnotherAuthorizationServer(t *testing.T) {
	e := newElsewhere(t)
	const here = "http://localhost:8080/mcp"
	line := "authorization_server " + e.url + "\n"
	const scopes = "scope mcp:read \"Read\"\nscope mcp:admin \"Everything\" {\noptional\n}\n"
	const static = "bearer_token dev_token_12345\n"
	for _, tt := range []struct {
		rule, lines, token string
		want               int // 299 when the next handler is reached
	}{
		{"a token for the resource", line, e.token(here, nil), 299},
		{"with scopes that nobody asks for", line, e.token(here, "openid profile"), 299},
		{"for another", line, e.token("http://localhost:8080", "mcp"), 401},
		{"the scope", line + scopes, e.token(here, "openid mcp:read"), 299},
		{"another scope", line + scopes, e.token(here, "openid"), 403},
		{"no scope", line + scopes, e.token(here, nil), 403},
		{"an audience of the configuration", "authorization_server " + e.url + " {\naudience api://x\n}\n", e.token("api://x", nil), 299},
		{"in place of the resource", "authorization_server " + e.url + " {\naudience api://x\n}\n", e.token(here, nil), 401},
		{"another issuer", "authorization_server " + strings.TrimSuffix(e.url, "/") + "\n", e.token(here, nil), 401},
		{"a static token beside it", line + static, "dev_token_12345", 299},
		{"and scopes", line + static + scopes, "dev_token_12345", 299},
		{"a static token with both", line + "auth_type both\n" + static, "dev_token_12345", 299},
		{"a static token without", line + "auth_type oauth2.1\n" + static, "dev_token_12345", 401},
		{"keys that cannot be had", "authorization_server " + e.url + " {\njwks_uri http://localhost:1/\n}\n", e.token(here, nil), 503},
		{"no token", line, "", 401},
		{"something opaque", line, "opaque-0123456789", 401},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			h := guarded(t, tt.lines)
			w := serve(t, h, "/mcp", tt.token)
			if w.Code != tt.want {
				t.Errorf("got %d %s, want %d", w.Code, w.Body, tt.want)
			}
			challenge := w.Header().Get("WWW-Authenticate")
			const metadata = `resource_metadata="http://localhost:8080/.well-known/oauth-protected-resource/mcp"`
			if (tt.want == 401 || tt.want == 403) != strings.Contains(challenge, metadata) {
				t.Errorf("the challenge is %q", challenge)
			}
			if tt.want == 403 && !strings.Contains(challenge, `error="insufficient_scope"`) {
				t.Errorf("the challenge is %q", challenge)
			}
			if tt.want == 503 && w.Header().Get("Retry-After") == "" {
				t.Error("there is no Retry-After")
			}
		})
	}
}

// serve sends a request with a token to a handler, before one that answers 299.
func serve(t *testing.T, h *Handler, path, token string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost:8080"+path, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	r = prepared(r, w)
	reached := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		w.Header().Set("X-Caller", repl.ReplaceAll("{http.auth.user.id} {http.auth.user.email} {http.auth.user.groups} {http.auth.user.client_id}", "?"))
		w.WriteHeader(299)
		return nil
	})
	if err := h.ServeHTTP(w, r, reached); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWhatASiteSaysThatOnlyChecksTokens(t *testing.T) {
	e := newElsewhere(t)
	h := guarded(t, "authorization_server "+e.url+" https://id.example.com/realms/a\nscope mcp:read \"Read\"\n")
	if got := serve(t, h, "/mcp", e.token("http://localhost:8080/mcp", "mcp:read")).Header().Get("X-Caller"); got != "auth0|1 alice@example.com staff,ops app" {
		t.Errorf("the caller is %q", got)
	}
	if got := serve(t, h, "/mcp", "").Header().Get("WWW-Authenticate"); !strings.Contains(got, `scope="mcp:read"`) {
		t.Errorf("the challenge is %q", got)
	}
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := prepared(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost:8080"+path, nil), w)
		if err := h.ServeHTTP(w, r, nothing); err != nil {
			t.Fatal(err)
		}
		return w
	}
	want := `"authorization_servers":["` + e.url + `","https://id.example.com/realms/a"],"scopes_supported":["mcp:read"]`
	if got := get("/.well-known/oauth-protected-resource/mcp").Body.String(); !strings.Contains(got, want) {
		t.Errorf("the metadata is %s", got)
	}
	missing := get("/.well-known/oauth-authorization-server")
	if missing.Code != 404 || missing.Header().Get("Access-Control-Allow-Origin") != "*" || missing.Header().Get("Content-Type") != "application/json" {
		t.Errorf("the metadata of a server that is none: %d %v", missing.Code, missing.Header())
	}
	for _, path := range []string{"/authorize", "/token", "/register", "/revoke", "/jwks", "/account", "/login", "/callback"} {
		if got := get(path); got.Code != 401 {
			t.Errorf("%s answers %d, and is nothing but a path of the upstream", path, got.Code)
		}
	}
	if got := get("/").Code; got != 200 {
		t.Errorf("the landing page answers %d", got)
	}
}

func TestLinesBesideAnAuthorizationServer(t *testing.T) {
	const server = "authorization_server https://id.example.com\n"
	const one = "mcp.example.com {\nmcp_auth {\n"
	effect := func(line string) string {
		return "the line authorization_server says that somebody else issues the tokens, so the line '" + line + "' has no effect"
	}
	for name, tt := range map[string]struct{ config, want string }{
		"a user":                    {one + server + alice + "}\n}", effect("user")},
		"a client":                  {one + server + robot + "}\n}", effect("client")},
		"registration":              {one + server + "registration {\ndynamic off\n}\n}\n}", effect("registration")},
		"session_lifetime":          {one + server + "session_lifetime 1h\n}\n}", effect("session_lifetime")},
		"a login":                   {one + server + "login header Remote-User\n}\n}", effect("login")},
		"a user for all sites":      {"{\nmcp_auth {\n" + server + "}\n}\n" + one + alice + "}\n}", effect("user")},
		"both for all sites":        {"{\nmcp_auth {\n" + server + alice + "}\n}\n" + one + "}\n}", effect("user")},
		"a user for other sites":    {"{\nmcp_auth {\nissuer https://auth.example.com\n" + alice + "}\n}\n" + one + server + "}\n}\nauth.example.com {\nmcp_auth\n}", ""},
		"a static token":            {one + server + "bearer_token dev_token_12345\n}\n}", ""},
		"bearer":                    {one + server + "auth_type bearer\n}\n}", "auth_type bearer takes static tokens only"},
		"bearer for all sites":      {"{\nmcp_auth {\nauth_type bearer\n}\n}\n" + one + server + "}\n}", "auth_type bearer takes static tokens only"},
		"bearer for one of all":     {"{\nmcp_auth {\n" + server + "}\n}\n" + one + "auth_type bearer\n}\n}", ""},
		"its own address":           {one + server + "issuer https://mcp.example.com\n}\n}", ""},
		"an issuer":                 {one + server + "issuer https://id.example.com\n}\n}", "the line issuer is about tokens of this server"},
		"two directives of a site":  {"mcp.example.com {\nmcp_auth /a/* {\n" + server + "}\nmcp_auth /b/* {\n" + alice + "}\n}", "there are several mcp_auth directives at this origin"},
		"scopes that nobody has":    {one + server + "bearer_token dev_token_12345 mcp\n}\n}", "a bearer_token has the scope 'mcp', which no line defines"},
		"a matcher hides its paths": {"mcp.example.com {\nmcp_auth /mcp {\n" + server + "}\n}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decided(t, tt.config)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)):
				t.Errorf("got %v, want %s…", err, tt.want)
			}
		})
	}
}

func TestPlaceholdersOfAnAuthorizationServer(t *testing.T) {
	t.Setenv("OTHER_ISSUER", "https://id.example.com/")
	t.Setenv("OTHER_AUDIENCE", "")
	o := Options{AuthorizationServers: []AuthorizationServer{{Issuers: []string{"{env.OTHER_ISSUER}"}}}}
	got, err := o.resolved()
	if err != nil || got.AuthorizationServers[0].Issuers[0] != "https://id.example.com/" || o.AuthorizationServers[0].Issuers[0] != "{env.OTHER_ISSUER}" {
		t.Errorf("got %+v, %v; the configuration is %+v", got.AuthorizationServers, err, o.AuthorizationServers)
	}
	o.AuthorizationServers[0].Audience = []string{"{env.OTHER_AUDIENCE}"}
	if _, err := o.resolved(); err == nil {
		t.Error("an audience that comes out as nothing would be another rule")
	}
}
