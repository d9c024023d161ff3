package external_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/external"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/jwks/jwkstest"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

const resource = "https://mcp.example.com/mcp"

// audiences are the addresses of the resource that requests are for.
var audiences = []string{"https://mcp.example.com/sse", resource}

// issuer is an authorization server of somebody else.
type issuer struct {
	t   testing.TB
	url string // its identifier

	mu       sync.Mutex
	keys     []jose.JSONWebKey // that are published
	metadata map[string]any    // beyond and in place of what is right
	down     bool
	answer   func(w http.ResponseWriter, r *http.Request) // of introspection

	fetched atomic.Int64 // how often the keys were
	asked   atomic.Int64 // how often introspection was
}

// newIssuer runs an issuer whose identifier has the path.
func newIssuer(t testing.TB, path string) *issuer {
	t.Helper()
	i := &issuer{t: t}
	srv := httptest.NewServer(i)
	t.Cleanup(srv.Close)
	i.url = srv.URL + path
	return i
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.down {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/realm/.well-known/openid-configuration", "/.well-known/openid-configuration":
		m := map[string]any{"issuer": i.url, "jwks_uri": "http://" + r.Host + "/jwks"}
		maps.Copy(m, i.metadata)
		_ = json.NewEncoder(w).Encode(m)
	case "/jwks":
		i.fetched.Add(1)
		set := jose.JSONWebKeySet{}
		for _, key := range i.keys {
			set.Keys = append(set.Keys, key.Public())
		}
		_ = json.NewEncoder(w).Encode(set)
	case "/introspect":
		i.asked.Add(1)
		i.answer(w, r)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (i *issuer) change(f func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f()
}

// newKey makes a key, and publishes it.
func (i *issuer) newKey(kid string) jose.JSONWebKey {
	i.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	key := jose.JSONWebKey{Key: private, KeyID: kid, Algorithm: "ES256", Use: "sig"}
	i.change(func() { i.keys = append(i.keys, key) })
	return key
}

// claims are those of a good token, with changes; nil takes one away.
func (i *issuer) claims(changes map[string]any) map[string]any {
	now := time.Now().Unix()
	c := map[string]any{
		"iss": i.url, "sub": "alice-1", "aud": resource, "client_id": "app", "scope": "mcp bugs:read",
		"iat": now, "nbf": now, "exp": now + 3600, "jti": "1",
	}
	for name, value := range changes {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

// sign makes a token of the claims with a key. A nil takes a member of the header away.
func sign(t testing.TB, key jose.JSONWebKey, header, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"typ": "at+jwt"}
	maps.Copy(all, header)
	maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil })
	return jwkstest.Sign(t, key, all, claims)
}

// forge puts a token together by hand.
func forge(header string, claims map[string]any, signature func(input []byte) []byte) string {
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	enc := base64.RawURLEncoding
	input := enc.EncodeToString([]byte(header)) + "." + enc.EncodeToString(payload)
	return input + "." + enc.EncodeToString(signature([]byte(input)))
}

func verifier(servers ...external.Server) *external.Verifier {
	return external.New(external.NewDirectory(zap.NewNop()), servers, nil)
}

// onlyIssuer is a verifier for the tokens of an issuer.
func onlyIssuer(i *issuer) *external.Verifier { return verifier(external.Server{Issuer: i.url}) }

func verify(t testing.TB, v *external.Verifier, raw string) (*token.Claims, error) {
	return v.VerifyFor(t.Context(), raw, audiences)
}
