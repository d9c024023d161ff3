package oidclogin_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login/oidclogin"
)

const (
	clientID = "mcp"
	secret   = "s3cret of the client"
	callback = "https://mcp.example.com/callback"
	verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	nonce    = "nonce-of-the-attempt"
)

// Keys of the tests. Making an RSA key takes long enough to do it once.
var (
	rsaKey      = must(rsa.GenerateKey(rand.Reader, 2048))
	otherRSA    = must(rsa.GenerateKey(rand.Reader, 2048))
	ecKey       = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	_, edKey, _ = ed25519.GenerateKey(rand.Reader)
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// fake is an OpenID provider that does what a test tells it to, with one person
// who has just signed in.
type fake struct {
	*httptest.Server
	t *testing.T

	mu        sync.Mutex
	discovery map[string]any // what the document has in place of what is right
	claims    map[string]any // likewise of the ID token; nil takes a claim out
	userinfo  map[string]any // nil for no such endpoint
	key       jose.SigningKey
	kid       string
	keys      []jose.JSONWebKey // that are published
	raw       string            // in place of an ID token that is signed
	answer    http.HandlerFunc  // in place of everything
	only      string            // the path that answer is for; "" for all
	seen      map[string]int    // requests by path
	form      url.Values        // of the last token request
	basic     bool              // whether it had HTTP credentials
}

func newFake(t *testing.T) *fake {
	f := &fake{
		t: t, discovery: map[string]any{}, claims: map[string]any{}, seen: map[string]int{},
		key: jose.SigningKey{Algorithm: jose.RS256, Key: rsaKey}, kid: "1",
		keys: []jose.JSONWebKey{{Key: rsaKey.Public(), KeyID: "1", Use: "sig"}},
	}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	return f
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.seen[r.URL.Path]++
	answer := f.answer
	if f.only != "" && f.only != r.URL.Path {
		answer = nil
	}
	f.mu.Unlock()
	if answer != nil {
		answer(w, r)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		document := map[string]any{
			"issuer": f.URL, "authorization_endpoint": f.URL + "/auth", "token_endpoint": f.URL + "/token", "jwks_uri": f.URL + "/keys",
			// A provider may offer more than we take.
			"id_token_signing_alg_values_supported": []string{"RS256", "ES256", "HS256", "none"},
		}
		if f.userinfo != nil {
			document["userinfo_endpoint"] = f.URL + "/userinfo"
		}
		maps.Copy(document, f.discovery)
		f.write(w, document)
	case "/keys":
		f.write(w, jose.JSONWebKeySet{Keys: f.keys})
	case "/token":
		_ = r.ParseForm()
		_, _, f.basic = r.BasicAuth()
		f.form = r.PostForm
		f.write(w, map[string]any{"access_token": "at", "token_type": "Bearer", "expires_in": 60, "id_token": f.idToken()})
	case "/userinfo":
		f.write(w, f.userinfo)
	default:
		http.NotFound(w, r)
	}
}

func (f *fake) write(w http.ResponseWriter, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		f.t.Error(err)
	}
}

func (f *fake) idToken() string {
	if f.raw != "" {
		return f.raw
	}
	now := time.Now()
	claims := map[string]any{
		"iss": f.URL, "aud": clientID, "sub": "248289761001", "exp": now.Add(time.Minute).Unix(), "iat": now.Unix(), "nonce": nonce,
	}
	maps.Copy(claims, f.claims)
	for name, value := range claims {
		if value == nil {
			delete(claims, name)
		}
	}
	signer := must(jose.NewSigner(f.key, (&jose.SignerOptions{}).WithHeader("kid", f.kid)))
	return must(must(signer.Sign(must(json.Marshal(claims)))).CompactSerialize())
}

// set changes what the provider does, while it may be serving.
func (f *fake) set(change func(*fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fake) requests(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[path]
}

// login is a login at the provider.
func (f *fake) login() *oidclogin.Provider {
	return oidclogin.New(oidclogin.Config{
		ID: "acme", Issuer: f.URL, ClientID: clientID, ClientSecret: secret, Scopes: []string{"openid", "profile", "email"},
	})
}

func attempt() login.Attempt {
	return login.Attempt{Callback: callback, State: "state", Nonce: nonce, Verifier: verifier}
}

// signIn comes back from the provider with a code.
func (f *fake) signIn() (login.Identity, error) {
	return f.login().Finish(f.t.Context(), attempt(), url.Values{"code": {"c0de"}, "state": {"state"}})
}

func halfHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// unsigned is a token of the algorithm "none".
func unsigned(claims map[string]any) string {
	encode := func(v any) string { return base64.RawURLEncoding.EncodeToString(must(json.Marshal(v))) }
	return encode(map[string]string{"alg": "none"}) + "." + encode(claims) + "."
}

func many(n int, s string) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

func long(n int) string { return strings.Repeat("x", n) }
