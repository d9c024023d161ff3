package client_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// keyed returns a node with a client whose document has the keys.
func keyed(t testing.TB, signers ...*signer) (*node, *client.Client) {
	t.Helper()
	n := newNode(t, newWeb(), nil)
	n.web.put(documentID, documentBody(t, map[string]any{
		"token_endpoint_auth_method": "private_key_jwt", "jwks": json.RawMessage(jwks(t, signers...)),
	}))
	c := n.touched(t)
	if c.Public() || !c.Signs() {
		t.Fatal("a client with keys counts as public")
	}
	return n, c
}

func wantInvalidClient(t testing.TB, what string, err error) {
	t.Helper()
	if refusal, ok := errors.AsType[*oauth.Error](err); !ok || refusal.Code != "invalid_client" || refusal.Status != 401 {
		t.Errorf("%s: %v, want invalid_client", what, err)
	}
}

func TestClaimsOfAnAssertion(t *testing.T) {
	key := newSigner(t, "1")
	n, c := keyed(t, key)
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	for rule, change := range map[string]map[string]any{
		"the issuer as audience":         {},
		"the token endpoint as audience": {"aud": tokenEndpoint},
		"a list of one audience":         {"aud": []string{serverIssuer}},
		"no iat":                         {"iat": nil},
		"an hour":                        {"exp": in(time.Hour)},
		"times with fractions":           {"exp": float64(in(time.Minute)) + 0.5, "iat": float64(in(0)) + 0.25},
		"a clock that is a little fast":  {"iat": in(30 * time.Second), "nbf": in(30 * time.Second)},
		"a clock that is a little slow":  {"exp": in(-30 * time.Second)},
		"further claims":                 {"x": map[string]any{"y": 1}},
	} {
		if err := n.authenticate(t, c, key.sign(t, claims(documentID, change))); err != nil {
			t.Errorf("%s: %v", rule, err)
		}
	}
	for rule, change := range map[string]map[string]any{
		"no iss":                     {"iss": nil},
		"no sub":                     {"sub": nil},
		"another iss":                {"iss": "https://evil.example/client.json"},
		"another sub":                {"sub": "https://evil.example/client.json"},
		"iss is the server":          {"iss": serverIssuer},
		"a sub that is no text":      {"sub": 1},
		"no aud":                     {"aud": nil},
		"an empty aud":               {"aud": ""},
		"an empty list":              {"aud": []string{}},
		"another server":             {"aud": "https://other.example"},
		"the issuer with a slash":    {"aud": serverIssuer + "/"},
		"a resource":                 {"aud": serverIssuer + "/mcp"},
		"two audiences":              {"aud": []string{serverIssuer, "https://other.example"}},
		"the same audience twice":    {"aud": []string{serverIssuer, serverIssuer}},
		"no exp":                     {"exp": nil},
		"an exp that is no number":   {"exp": "soon"},
		"expired":                    {"exp": in(-2 * time.Minute)},
		"good for too long":          {"exp": in(2 * time.Hour)},
		"good for ever":              {"exp": 1e300},
		"an exp before all times":    {"exp": -1e300},
		"not good yet":               {"nbf": in(10 * time.Minute)},
		"made in the future":         {"iat": in(10 * time.Minute)},
		"no jti":                     {"jti": nil},
		"an empty jti":               {"jti": ""},
		"a jti that is no text":      {"jti": 1},
		"a jti that is far too long": {"jti": strings.Repeat("x", 1000)},
	} {
		wantInvalidClient(t, rule, n.authenticate(t, c, key.sign(t, claims(documentID, change))))
	}
}

func TestAnAssertionIsUsedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newSigner(t, "1")
		n, c := keyed(t, key)
		raw := key.sign(t, claims(documentID, map[string]any{"jti": "a"}))
		if err := n.authenticate(t, c, raw); err != nil {
			t.Fatal(err)
		}
		wantInvalidClient(t, "again", n.authenticate(t, c, raw))
		other := newNode(t, n.web, n.store)
		wantInvalidClient(t, "at another node", other.authenticate(t, c, raw))
		wantInvalidClient(t, "with the same jti", n.authenticate(t, c, key.sign(t, claims(documentID, map[string]any{"jti": "a", "aud": tokenEndpoint}))))
		if err := n.authenticate(t, c, key.sign(t, claims(documentID, map[string]any{"jti": "b"}))); err != nil {
			t.Errorf("another jti: %v", err)
		}
		for name, r := range n.records(t, "assertion") {
			if err := client.CheckAssertion(name, r.Value); err != nil {
				t.Error(err)
			}
			if client.CheckAssertion(name[1:], r.Value) == nil || client.CheckAssertion(name, []byte(`{"v":2}`)) == nil {
				t.Error("a mark that nobody made is let through")
			}
		}
		// The mark outlives the assertion for every clock that may be slow.
		for range 20 {
			time.Sleep(10 * time.Second)
			wantInvalidClient(t, "while it may be good", n.authenticate(t, c, raw))
		}
		if marks := n.records(t, "assertion"); len(marks) != 0 {
			t.Errorf("%d marks are left", len(marks))
		}
	})
}

func TestOneOfManyWhoUseAnAssertionWins(t *testing.T) {
	key := newSigner(t, "1")
	n, c := keyed(t, key)
	nodes := []*node{n, newNode(t, n.web, n.store)}
	raw := key.sign(t, claims(documentID, nil))
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if nodes[i%2].authenticate(t, c, raw) == nil {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d used it", won.Load())
	}
}

// What is refused has not been used.
func TestARefusedAssertionLeavesNothingBehind(t *testing.T) {
	key, stranger := newSigner(t, "1"), newSigner(t, "1")
	n, c := keyed(t, key)
	good := claims(documentID, nil)
	wantInvalidClient(t, "a stranger's", n.authenticate(t, c, stranger.sign(t, good)))
	if marks := n.records(t, "assertion"); len(marks) != 0 {
		t.Errorf("the store has %v", marks)
	}
	if err := n.authenticate(t, c, key.sign(t, good)); err != nil {
		t.Error(err)
	}
}

func TestSignaturesOfAssertions(t *testing.T) {
	key, second := newSigner(t, "1"), newSigner(t, "2")
	n, c := keyed(t, key, second)
	unnamed := *second
	unnamed.id = ""
	for rule, raw := range map[string]string{
		"the first key":               key.sign(t, claims(documentID, nil)),
		"the second key":              second.sign(t, claims(documentID, nil)),
		"a key without its name":      unnamed.sign(t, claims(documentID, nil)),
		"the type of the newer draft": key.sign(t, claims(documentID, nil), "typ", "client-authentication+jwt"),
	} {
		if err := n.authenticate(t, c, raw); err != nil {
			t.Errorf("%s: %v", rule, err)
		}
	}
	stranger := newSigner(t, "1")
	swapped := *key
	swapped.id = "2"
	unknown := *key
	unknown.id = "3"
	own := jose.JSONWebKey{Key: stranger.public.Key, KeyID: "1"}
	valid := key.sign(t, claims(documentID, nil))
	parts := strings.Split(valid, ".")
	encode := base64.RawURLEncoding.EncodeToString
	for rule, raw := range map[string]string{
		"a key of a stranger":         stranger.sign(t, claims(documentID, nil)),
		"the name of another key":     swapped.sign(t, claims(documentID, nil)),
		"a name that nobody has":      unknown.sign(t, claims(documentID, nil)),
		"a key that it brings itself": stranger.sign(t, claims(documentID, nil), "jwk", own),
		"a place of keys of its own":  stranger.sign(t, claims(documentID, nil), "jku", "https://evil.example/jwks", "x5u", "https://evil.example/x"),
		"the type of an access token": key.sign(t, claims(documentID, nil), "typ", "at+jwt"),
		"the type of an ID token":     key.sign(t, claims(documentID, nil), "typ", "logout+jwt"),
		"a type that is no text":      key.sign(t, claims(documentID, nil), "typ", 1),
		"an extension it insists on":  key.sign(t, claims(documentID, nil), "crit", []string{"x"}, "x", 1),
		"no signature":                parts[0] + "." + parts[1] + ".",
		"a signature cut short":       valid[:len(valid)-4],
		"claims that were changed":    parts[0] + "." + encode([]byte(`{"iss":"x"}`)) + "." + parts[2],
		"alg none":                    encode([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
		"claims that are a list":      parts[0] + "." + encode([]byte(`[]`)) + "." + parts[2],
		"two parts":                   parts[0] + "." + parts[1],
		"four parts":                  valid + ".x",
		"JSON":                        `{"payload":"` + parts[1] + `","signatures":[]}`,
		"a line break":                valid + "\n",
		"nothing":                     "",
		"something huge":              strings.Repeat("a", 1<<20),
	} {
		wantInvalidClient(t, rule, n.authenticate(t, c, raw))
	}
	for _, alg := range []jose.SignatureAlgorithm{jose.HS256, jose.HS512} {
		// The public key as a shared secret is how a naive check is fooled.
		symmetric := &signer{id: "1", alg: alg, private: []byte(jwks(t, key) + strings.Repeat("x", 64))}
		wantInvalidClient(t, string(alg), n.authenticate(t, c, symmetric.sign(t, claims(documentID, nil))))
	}
}

func TestTheAlgorithmsThatAreAnnouncedWork(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaPublic := jose.JSONWebKey{Key: rsaKey.Public(), KeyID: "rsa"}
	keys := map[string]*signer{
		"ES256": newSigner(t, "ec"),
		"RS256": {"rsa", jose.RS256, rsaKey, rsaPublic},
		"PS256": {"rsa", jose.PS256, rsaKey, rsaPublic},
		"EdDSA": {"ed", jose.EdDSA, private, jose.JSONWebKey{Key: public, KeyID: "ed"}},
	}
	for alg, key := range keys {
		n, c := keyed(t, key)
		if err := n.authenticate(t, c, key.sign(t, claims(documentID, nil))); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
	}
	for alg, key := range map[jose.SignatureAlgorithm]*signer{jose.RS512: keys["RS256"], jose.PS384: keys["PS256"]} {
		n, c := keyed(t, key)
		other := *key
		other.alg = alg
		wantInvalidClient(t, string(alg), n.authenticate(t, c, other.sign(t, claims(documentID, nil))))
	}
}

// Whatever call to the store fails, the client is never told that it is wrong for
// that; and no assertion is good twice.
func TestAssertionsWhenTheStoreFails(t *testing.T) {
	key := newSigner(t, "1")
	storetest.FailEachCall(t, func(t *testing.T) store.Store { return memstore.New(0) }, func(t *testing.T, f *storetest.Faulty) {
		n := newNode(t, newWeb(), f)
		n.web.put(jwksURI, jwks(t, key))
		c := configured("robot", jwksURI)
		accepted := 0
		raw := key.sign(t, claims("robot", nil))
		for range 4 {
			err := n.authenticate(t, c, raw)
			if err == nil {
				accepted++
			} else if _, refusal := errors.AsType[*oauth.Error](err); refusal {
				break // it has been used
			}
		}
		if accepted > 1 {
			t.Errorf("accepted %d times", accepted)
		}
		for range 2 {
			if err := n.authenticate(t, c, key.sign(t, claims("robot", nil))); err == nil {
				return
			} else if _, refusal := errors.AsType[*oauth.Error](err); refusal {
				t.Errorf("a new one is refused: %v", err)
			}
		}
		t.Error("no new one is accepted")
	})
}

// Whatever is sent, it is refused with invalid_client or has the right shape; and
// what nobody has signed authenticates nobody.
func FuzzParseAssertion(f *testing.F) {
	key := newSigner(f, "1")
	n, c := keyed(f, key)
	valid := key.sign(f, claims(documentID, nil))
	f.Add(valid)
	f.Add("a.b.c")
	f.Add(valid[:len(valid)-1])
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	if err := n.authenticate(f, c, valid); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if err := n.authenticate(t, c, raw); err == nil {
			t.Errorf("%q authenticates", raw)
		} else if _, refusal := errors.AsType[*oauth.Error](err); !refusal {
			t.Errorf("%q: %v", raw, err)
		}
	})
}
