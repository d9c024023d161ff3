package oidclogin_test

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login/oidclogin"
)

// asserting is a login that believes assertions.
func (f *fake) asserting() *oidclogin.Asserting {
	return oidclogin.NewAsserting(oidclogin.Config{ID: "acme", Issuer: f.URL, ClientID: clientID, Scopes: []string{"openid"}})
}

// assertion signs claims with the key of the provider, or another one.
func (f *fake) assertion(key jose.SigningKey, change map[string]any) string {
	claims := map[string]any{"iss": f.URL, "sub": "248289761001", "exp": time.Now().Add(time.Minute).Unix()}
	maps.Copy(claims, change)
	signer := must(jose.NewSigner(key, (&jose.SignerOptions{}).WithType("oauth-id-jag+jwt").WithHeader("kid", f.kid)))
	return must(must(signer.Sign(must(json.Marshal(claims)))).CompactSerialize())
}

func TestWhomAnAssertionIsAbout(t *testing.T) {
	f := newFake(t)
	f.keys = append(f.keys, jose.JSONWebKey{Key: ecKey.Public(), KeyID: "1", Use: "sig"}, jose.JSONWebKey{Key: edKey.Public(), KeyID: "1", Use: "sig"})
	l := f.asserting()
	if l.Issuer() != f.URL {
		t.Errorf("the issuer is %s", l.Issuer())
	}
	for _, key := range []jose.SigningKey{
		f.key, {Algorithm: jose.PS256, Key: rsaKey}, {Algorithm: jose.ES256, Key: ecKey}, {Algorithm: jose.EdDSA, Key: edKey},
	} {
		id, err := l.Assert(t.Context(), f.assertion(key, map[string]any{
			"email": "carol@example.com", "email_verified": true, "name": "Carol", "groups": []string{"staff"},
		}))
		if err != nil {
			t.Fatalf("%s: %v", key.Algorithm, err)
		}
		if id.Subject != "acme:248289761001" || id.Provider != "acme" || id.Email != "carol@example.com" || id.Name != "Carol" ||
			!slices.Equal(id.Groups, []string{"staff"}) || !l.Recognizes(id) {
			t.Errorf("%s: got %+v", key.Algorithm, id)
		}
	}
	// Whoever signs in with a browser is the same person.
	signedIn, err := f.signIn()
	if err != nil || !l.Recognizes(signedIn) || signedIn.Subject != "acme:248289761001" {
		t.Errorf("with a browser: %+v, %v", signedIn, err)
	}
	if n := f.requests("/keys"); n != 2 { // one more for the ID token
		t.Errorf("the keys were fetched %d times", n)
	}
}

func TestAssertionsThatAreNotBelieved(t *testing.T) {
	f := newFake(t)
	l := f.asserting()
	for rule, raw := range map[string]string{
		"another key":             f.assertion(jose.SigningKey{Algorithm: jose.RS256, Key: otherRSA}, nil),
		"another iss":             f.assertion(f.key, map[string]any{"iss": "https://evil.example"}),
		"an iss that is no text":  f.assertion(f.key, map[string]any{"iss": 1}),
		"a sub that is no text":   f.assertion(f.key, map[string]any{"sub": 1}),
		"an empty sub":            f.assertion(f.key, map[string]any{"sub": ""}),
		"a sub that no header is": f.assertion(f.key, map[string]any{"sub": "a\nb"}),
		"a sub without an end":    f.assertion(f.key, map[string]any{"sub": long(300)}),
		"another algorithm":       f.assertion(jose.SigningKey{Algorithm: jose.RS512, Key: rsaKey}, nil),
		"no signature":            unsigned(map[string]any{"iss": f.URL, "sub": "a"}),
		"an HMAC":                 f.assertion(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(long(32))}, nil),
		"junk":                    "junk",
	} {
		if id, err := l.Assert(t.Context(), raw); err == nil || errors.Is(err, login.ErrUnreachable) {
			t.Errorf("%s: %+v, %v", rule, id, err)
		}
	}
}

func TestAssertionsWhileTheKeysCannotBeHad(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"an error":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
		"no keys":     func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[]}`)) },
		"no JSON":     func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`<html>`)) },
		"without end": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(strings.Repeat(" ", 2<<20))) },
		"a redirection": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://localhost:1/keys", http.StatusFound)
		},
	} {
		for _, path := range []string{"/keys", "/.well-known/openid-configuration"} {
			f := newFake(t)
			f.set(func(f *fake) { f.answer, f.only = answer, path })
			if _, err := f.asserting().Assert(t.Context(), f.assertion(f.key, nil)); !errors.Is(err, login.ErrUnreachable) {
				t.Errorf("%s at %s: %v, want ErrUnreachable", name, path, err)
			}
		}
	}
}
