package integration

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// enterpriseProvider is the identity provider of a company: it trades the ID token of a person for an assertion by which
// an agent may act for that person at an MCP server, as the administrator has allowed it to.
type enterpriseProvider struct {
	*httptest.Server
	t *testing.T

	mu  sync.Mutex
	key jose.JSONWebKey
}

func newEnterpriseProvider(t *testing.T) *enterpriseProvider {
	t.Helper()
	p := &enterpriseProvider{t: t}
	p.rotate()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		p.write(w, map[string]any{
			"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
			"response_types_supported": []string{"code"}, "code_challenge_methods_supported": []string{"S256"},
			"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.write(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{p.key.Public()}})
	})
	mux.HandleFunc("POST /token", p.exchange)
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

// rotate makes a new key.
func (p *enterpriseProvider) rotate() {
	p.t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.key = jose.JSONWebKey{Key: private, KeyID: rand.Text(), Algorithm: "RS256", Use: "sig"}
}

func (p *enterpriseProvider) write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		p.t.Error(err)
	}
}

// exchange is the token exchange (RFC 8693) of the ID token of the person.
func (p *enterpriseProvider) exchange(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || r.PostForm.Get("requested_token_type") != "urn:ietf:params:oauth:token-type:id-jag" ||
		r.PostForm.Get("subject_token") != "id-token-of-carol" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	p.write(w, map[string]any{
		"issued_token_type": "urn:ietf:params:oauth:token-type:id-jag", "token_type": "N_A", "expires_in": 300,
		"access_token": p.assertion(map[string]any{
			"aud": r.PostForm.Get("audience"), "resource": r.PostForm.Get("resource"), "scope": r.PostForm.Get("scope"),
		}),
	})
}

// assertion is one about Carol, with changes; a nil or an empty text takes a claim away.
func (p *enterpriseProvider) assertion(change map[string]any) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	claims := map[string]any{
		"iss": p.URL, "sub": "U-carol", "client_id": "agent", "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		"email": "carol@example.com", "email_verified": true, "groups": []string{"staff"},
	}
	maps.Copy(claims, change)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil || v == "" })
	payload, err := json.Marshal(claims)
	if err != nil {
		p.t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: p.key}, (&jose.SignerOptions{}).WithType("oauth-id-jag+jwt"))
	if err != nil {
		p.t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		p.t.Fatal(err)
	}
	compact, err := signed.CompactSerialize()
	if err != nil {
		p.t.Fatal(err)
	}
	return compact
}

// lines are those of a site that believes the provider.
func (p *enterpriseProvider) lines() string {
	return `
		login oidc acme {
			issuer ` + p.URL + `
			client_id mcp
			identity_assertions
		}
		allow group staff
		client agent {
			secret {env.AGENT_SECRET}
			grant_types urn:ietf:params:oauth:grant-type:jwt-bearer
		}
		forward X-Mcp-User {http.auth.user.id}
		forward X-Caller-Email {http.auth.user.email}
`
}
