package token_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
)

const (
	issuer = "https://mcp.example.com"
	prefix = "test/"

	accessLifetime = time.Hour
)

// node is what one process has of an issuer.
type node struct {
	store       store.Store
	keys        *token.Keys
	revocations *token.Revocations
	verifier    *token.Verifier
}

func newNode(t testing.TB, s store.Store) *node {
	t.Helper()
	n := &node{store: s}
	var err error
	if n.keys, err = token.OpenKeys(t.Context(), s, prefix, token.KeysConfig{}); err != nil {
		t.Fatal(err)
	}
	if n.revocations, err = token.OpenRevocations(t.Context(), s, prefix, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	n.verifier = token.NewVerifier(issuer, n.keys, n.revocations, nil)
	return n
}

func newStore(t testing.TB) store.Store {
	s := memstore.New(0)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func claimsOf(grantID string) oauth.AccessTokenClaims {
	return oauth.AccessTokenClaims{
		Issuer: issuer, Subject: "alice", Audience: issuer + "/mcp", ClientID: "mcp_client", Scope: "mcp extra", GrantID: grantID,
	}
}

func (n *node) mint(t testing.TB, grantID string) string {
	t.Helper()
	raw, err := n.keys.Mint(claimsOf(grantID), accessLifetime)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// storedKeys is the stored form of the keys, as far as tests change it.
type storedKeys struct {
	Version int         `json:"v"`
	Secret  []byte      `json:"secret"`
	Signing []storedKey `json:"signing"`
}

type storedKey struct {
	ID      string    `json:"kid"`
	PKCS8   []byte    `json:"pkcs8"`
	Created time.Time `json:"created"`
}

func readKeys(t testing.TB, s store.Store) storedKeys {
	t.Helper()
	r, err := s.Get(t.Context(), prefix+"keys")
	if err != nil {
		t.Fatal(err)
	}
	var k storedKeys
	if err := json.Unmarshal(r.Value, &k); err != nil {
		t.Fatal(err)
	}
	return k
}

func writeKeys(t testing.TB, s store.Store, k storedKeys) {
	t.Helper()
	data, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), prefix+"keys", store.Record{Value: data}); err != nil {
		t.Fatal(err)
	}
}

func newStoredKey(t testing.TB, id string) (storedKey, *ecdsa.PrivateKey) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return storedKey{id, der, time.Now()}, private
}

// private is the key that the node signs with.
func (k storedKey) private(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	parsed, err := x509.ParsePKCS8PrivateKey(k.PKCS8)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.(*ecdsa.PrivateKey)
}

// forge makes a compact JWS of exactly these texts.
func forge(header, payload string, sign func(input string) []byte) string {
	encode := base64.RawURLEncoding.EncodeToString
	input := encode([]byte(header)) + "." + encode([]byte(payload))
	return input + "." + encode(sign(input))
}

// es256 signs as RFC 7518 section 3.4 has it.
func es256(t testing.TB, key *ecdsa.PrivateKey) func(string) []byte {
	return func(input string) []byte {
		sum := sha256.Sum256([]byte(input))
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
}

// signed returns the same signature for everything.
func signed(signature []byte) func(string) []byte {
	return func(string) []byte { return signature }
}
