package authserver_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/jwks/jwkstest"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login/oidclogin"
)

const (
	idpIssuer = "https://id.example.org"
	agentID   = "agent"
	agentPass = "agent-secret"
)

// idp is the provider of an enterprise that vouches for people and clients.
type idp struct {
	t *testing.T

	mu      sync.Mutex
	key     jose.JSONWebKey // the one that signs
	public  []jose.JSONWebKey
	down    bool
	fetches int // of the keys
}

func newIDP(t *testing.T) *idp {
	p := &idp{t: t}
	p.rotate("1")
	return p
}

// rotate makes a key, which is the only one from then on.
func (p *idp) rotate(id string) {
	p.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.key = jose.JSONWebKey{Key: private, KeyID: id, Algorithm: "ES256"}
	p.public = []jose.JSONWebKey{p.key.Public()}
}

// RoundTrip implements http.RoundTripper.
func (p *idp) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		return nil, io.ErrUnexpectedEOF
	}
	var body any = jose.JSONWebKeySet{Keys: p.public}
	if r.URL.Path == "/.well-known/openid-configuration" {
		body = map[string]any{
			"issuer": idpIssuer, "authorization_endpoint": idpIssuer + "/auth", "token_endpoint": idpIssuer + "/token", "jwks_uri": idpIssuer + "/keys",
		}
	} else {
		p.fetches++
	}
	data, err := json.Marshal(body)
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(string(data))), Request: r,
	}, err
}

func (p *idp) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// trust makes a server believe the provider, and adds a client for it.
func (p *idp) trust(c *authserver.Config) {
	l := oidclogin.NewAsserting(oidclogin.Config{ID: "acme", Issuer: idpIssuer, ClientID: "mcp", Scopes: []string{"openid"}, Transport: p})
	c.Redirects = append(c.Redirects, authserver.Redirect{ID: "acme", Label: "Acme", Login: l})
	c.Asserters = append(c.Asserters, l)
	c.Clients = append(c.Clients, &client.Client{ID: agentID, Name: "Agent", GrantTypes: []string{oauth.GrantJWTBearer}, Secret: plainSecret(agentPass)})
}

// claims are those of a good assertion but for the changes; a nil takes the claim
// away.
func (p *idp) claims(change map[string]any) map[string]any {
	now := time.Now()
	out := map[string]any{
		"iss": idpIssuer, "sub": "U1", "aud": issuer, "client_id": agentID, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "resource": resource, "scope": "mcp bugs:write",
	}
	maps.Copy(out, change)
	maps.DeleteFunc(out, func(_ string, v any) bool { return v == nil })
	return out
}

// assertion signs claims as the provider does.
func (p *idp) assertion(change map[string]any) string {
	return p.signed(oauth.IdentityAssertionType, nil, p.claims(change))
}

func (p *idp) signed(typ string, header map[string]any, claims any) string {
	p.t.Helper()
	return signedBy(p.t, p.key, typ, header, claims)
}

func signedBy(t *testing.T, key jose.JSONWebKey, typ string, header map[string]any, claims any) string {
	t.Helper()
	all := map[string]any{}
	maps.Copy(all, header)
	if typ != "" {
		all["typ"] = typ
	}
	return jwkstest.Sign(t, key, all, claims)
}

// byHand puts an assertion together that no library would sign.
func byHand(header string, claims any, signature func(input string) []byte) string {
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	input := encode([]byte(header)) + "." + encode(payload)
	return input + "." + encode(signature(input))
}

// bearing is the token request of the agent with an assertion.
func bearing(assertion string, pairs ...string) url.Values {
	return with(url.Values{
		"grant_type": {oauth.GrantJWTBearer}, "assertion": {assertion}, "client_id": {agentID}, "client_secret": {agentPass},
	}, pairs...)
}

func hmacBy(key []byte) func(string) []byte {
	return func(input string) []byte {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(input))
		return mac.Sum(nil)
	}
}
