package external_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/external"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

func TestClaimsOfEachRule(t *testing.T) {
	i := newIssuer(t, "/realm")
	key := i.newKey("k1")
	v := onlyIssuer(i)
	now := time.Now().Unix()
	jwt := map[string]any{"typ": "JWT"}
	for name, tt := range map[string]struct {
		header, claims map[string]any
		want           error
	}{
		"RFC 9068":                          {},
		"the whole type":                    {header: map[string]any{"typ": "application/at+jwt"}},
		"typ JWT with a scope":              {header: jwt},
		"no typ":                            {header: map[string]any{"typ": nil}},
		"another typ":                       {header: map[string]any{"typ": "dpop+jwt"}, want: token.ErrMalformed},
		"a logout token":                    {header: map[string]any{"typ": "logout+jwt"}, want: token.ErrMalformed},
		"a typ that is no string":           {header: map[string]any{"typ": 1}, want: token.ErrMalformed},
		"crit":                              {header: map[string]any{"crit": []string{"exp"}}, want: token.ErrMalformed},
		"aud in a list":                     {claims: map[string]any{"aud": []string{"account", resource}}},
		"another aud":                       {claims: map[string]any{"aud": "https://other.example.com/mcp"}, want: token.ErrAudience},
		"aud with a slash more":             {claims: map[string]any{"aud": resource + "/"}, want: token.ErrAudience},
		"a list of others":                  {claims: map[string]any{"aud": []string{"account", "https://mcp.example.com"}}, want: token.ErrAudience},
		"no aud":                            {claims: map[string]any{"aud": nil}, want: token.ErrMalformed},
		"an empty aud":                      {claims: map[string]any{"aud": ""}, want: token.ErrMalformed},
		"an empty list of aud":              {claims: map[string]any{"aud": []string{}}, want: token.ErrMalformed},
		"aud in a list of other things":     {claims: map[string]any{"aud": []any{resource, 1}}, want: token.ErrMalformed},
		"aud in another spelling":           {claims: map[string]any{"aud": nil, "AUD": resource}, want: token.ErrMalformed},
		"another issuer":                    {claims: map[string]any{"iss": "https://evil.example.com"}, want: token.ErrMalformed},
		"the issuer with a slash more":      {claims: map[string]any{"iss": i.url + "/"}, want: token.ErrMalformed},
		"no issuer":                         {claims: map[string]any{"iss": nil}, want: token.ErrMalformed},
		"expired":                           {claims: map[string]any{"exp": now - 1}, want: token.ErrExpired},
		"no exp":                            {claims: map[string]any{"exp": nil}, want: token.ErrMalformed},
		"exp is text":                       {claims: map[string]any{"exp": "4102444800"}, want: token.ErrMalformed},
		"exp is null":                       {claims: map[string]any{"exp": json.RawMessage("null")}, want: token.ErrMalformed},
		"exp with a fraction":               {claims: map[string]any{"exp": float64(now) + 60.5}},
		"exp beyond all time":               {claims: map[string]any{"exp": 1e300}, want: token.ErrMalformed},
		"nbf in the future":                 {claims: map[string]any{"nbf": now + 600}, want: token.ErrMalformed},
		"nbf a little ahead":                {claims: map[string]any{"nbf": now + 30}},
		"iat in the future":                 {claims: map[string]any{"iat": now + 600}, want: token.ErrMalformed},
		"no iat and no nbf":                 {claims: map[string]any{"iat": nil, "nbf": nil}},
		"no sub":                            {claims: map[string]any{"sub": nil}, want: token.ErrMalformed},
		"sub with a line break":             {claims: map[string]any{"sub": "alice\nX-Admin: 1"}, want: token.ErrMalformed},
		"a bound token":                     {claims: map[string]any{"cnf": map[string]any{"jkt": "x"}}, want: token.ErrMalformed},
		"an ID token":                       {header: jwt, claims: map[string]any{"scope": nil, "nonce": "n"}, want: token.ErrMalformed},
		"an ID token with a hash":           {header: jwt, claims: map[string]any{"scope": nil, "at_hash": "h"}, want: token.ErrMalformed},
		"an ID token of Keycloak":           {header: jwt, claims: map[string]any{"typ": "ID"}, want: token.ErrMalformed},
		"a refresh token of Keycloak":       {header: jwt, claims: map[string]any{"typ": "Refresh"}, want: token.ErrMalformed},
		"an access token of Keycloak":       {header: jwt, claims: map[string]any{"typ": "Bearer", "nonce": "n"}},
		"an ID token of Cognito":            {header: jwt, claims: map[string]any{"token_use": "id"}, want: token.ErrMalformed},
		"a security event":                  {claims: map[string]any{"events": map[string]any{}}, want: token.ErrMalformed},
		"at+jwt with a nonce and no scopes": {claims: map[string]any{"scope": nil, "nonce": "n"}},
	} {
		t.Run(name, func(t *testing.T) {
			raw := sign(t, key, tt.header, i.claims(tt.claims))
			for range 2 { // with the cache as without
				if _, err := verify(t, v, raw); !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
			}
		})
	}
}

func TestTokensOfKnownProducts(t *testing.T) {
	i := newIssuer(t, "/")
	key := i.newKey("k1")
	jwt := map[string]any{"typ": "JWT"}
	for name, tt := range map[string]struct {
		claims   map[string]any
		audience []string
		want     token.Claims
	}{
		"Keycloak": {
			map[string]any{
				"typ": "Bearer", "client_id": nil, "azp": "claude", "aud": []string{resource, "account"}, "scope": "openid mcp:read",
				"email": "alice@example.com", "email_verified": true, "name": "Alice", "groups": []string{"/staff", "a,b", ""},
			}, nil,
			token.Claims{AccessTokenClaims: oauth.AccessTokenClaims{ClientID: "claude", Scope: "openid mcp:read", Email: "alice@example.com", Name: "Alice", Groups: []string{"/staff"}}},
		},
		"Entra": {
			map[string]any{
				"client_id": nil, "azp": "11111111-2222", "scope": nil, "scp": "mcp.read mcp.write", "aud": "api://mcp",
				"roles": []string{"Reader"}, "email": "alice@example.com",
			}, []string{"api://mcp"},
			token.Claims{AccessTokenClaims: oauth.AccessTokenClaims{ClientID: "11111111-2222", Scope: "mcp.read mcp.write", Groups: []string{"Reader"}}},
		},
		"Auth0": {
			map[string]any{"client_id": nil, "azp": "abc", "aud": []string{resource, "https://x.auth0.com/userinfo"}, "email": "a@example.com", "email_verified": "true"}, nil,
			token.Claims{AccessTokenClaims: oauth.AccessTokenClaims{ClientID: "abc", Scope: "mcp bugs:read"}},
		},
		"Okta": {
			map[string]any{"client_id": nil, "cid": "0oa1", "scope": nil, "scp": []string{"mcp", "bugs:read"}}, nil,
			token.Claims{AccessTokenClaims: oauth.AccessTokenClaims{ClientID: "0oa1", Scope: "mcp bugs:read"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := verifier(external.Server{Issuer: i.url, Audience: tt.audience})
			got, err := verify(t, v, sign(t, key, jwt, i.claims(tt.claims)))
			if err != nil {
				t.Fatal(err)
			}
			want := tt.want
			want.Scopes = oauth.ParseScope(want.Scope)
			want.Issuer, want.Subject, want.Expires, want.IssuedAt = i.url, "alice-1", got.Expires, got.IssuedAt
			if diff := cmp.Diff(want, *got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The configured audience is in place of the address of the resource.
func TestTheConfiguredAudience(t *testing.T) {
	i := newIssuer(t, "/realm")
	key := i.newKey("k1")
	v := verifier(external.Server{Issuer: i.url, Audience: []string{"api://one", "api://two"}})
	if _, err := verify(t, v, sign(t, key, nil, i.claims(map[string]any{"aud": "api://two"}))); err != nil {
		t.Error(err)
	}
	if _, err := verify(t, v, sign(t, key, nil, i.claims(nil))); !errors.Is(err, token.ErrAudience) {
		t.Errorf("a token for the address: %v", err)
	}
}

func TestForgedTokens(t *testing.T) {
	i, other := newIssuer(t, "/realm"), newIssuer(t, "/realm")
	key, foreign := i.newKey("k1"), other.newKey("k1")
	v := onlyIssuer(i)
	good := sign(t, key, nil, i.claims(nil))
	if _, err := verify(t, v, good); err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public().Key)
	if err != nil {
		t.Fatal(err)
	}
	hs256 := func(secret []byte) func([]byte) []byte {
		return func(input []byte) []byte {
			mac := hmac.New(sha256.New, secret)
			mac.Write(input)
			return mac.Sum(nil)
		}
	}
	published, err := key.Public().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	nothing := func([]byte) []byte { return nil }
	own, err := foreign.Public().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	for name, raw := range map[string]string{
		"alg none":                    forge(`{"alg":"none","typ":"at+jwt"}`, i.claims(nil), nothing),
		"alg None with a signature":   forge(`{"alg":"None","kid":"k1"}`, i.claims(nil), hs256([]byte("x"))),
		"HS256 with the key in DER":   forge(`{"alg":"HS256","typ":"at+jwt","kid":"k1"}`, i.claims(nil), hs256(public)),
		"HS256 with the key in PEM":   forge(`{"alg":"HS256","typ":"at+jwt","kid":"k1"}`, i.claims(nil), hs256(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))),
		"HS256 with the key in JSON":  forge(`{"alg":"HS256","typ":"at+jwt","kid":"k1"}`, i.claims(nil), hs256(published)),
		"the key of another issuer":   sign(t, foreign, nil, i.claims(nil)),
		"a key in the header":         sign(t, foreign, map[string]any{"jwk": json.RawMessage(own)}, i.claims(nil)),
		"a place of keys":             sign(t, foreign, map[string]any{"jku": other.url + "/jwks"}, i.claims(nil)),
		"a place of certificates":     sign(t, foreign, map[string]any{"x5u": other.url + "/jwks"}, i.claims(nil)),
		"another payload":             parts[0] + "." + strings.Split(sign(t, key, nil, i.claims(map[string]any{"sub": "bob"})), ".")[1] + "." + parts[2],
		"no signature":                parts[0] + "." + parts[1] + ".",
		"two parts":                   parts[0] + "." + parts[1],
		"four parts":                  good + ".",
		"a line break":                good[:20] + "\n" + good[20:],
		"padding":                     good + "==",
		"too long":                    sign(t, key, nil, i.claims(map[string]any{"x": strings.Repeat("x", oauth.MaxTokenLength)})),
		"nothing":                     "",
		"dots":                        "..",
		"an opaque token":             "0123456789abcdef0123456789abcdef",
		"another issuer's own token":  sign(t, foreign, nil, other.claims(nil)),
		"JSON in place of the header": forge(`[]`, i.claims(nil), nothing),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := verify(t, v, raw); !errors.Is(err, token.ErrMalformed) {
				t.Errorf("got %v, want ErrMalformed", err)
			}
		})
	}
	if other.fetched.Load() != 0 {
		t.Error("the keys of somebody whom nobody has named were fetched")
	}
}

// Each issuer vouches for its own tokens only, even though two have one key.
func TestIssuersAreKeptApart(t *testing.T) {
	one, two, third := newIssuer(t, "/realm"), newIssuer(t, "/realm"), newIssuer(t, "/realm")
	shared := one.newKey("k1")
	two.keys, third.keys = one.keys, one.keys
	only := two.newKey("k2")
	v := verifier(external.Server{Issuer: one.url}, external.Server{Issuer: two.url, Audience: []string{"api://two"}})
	for name, tt := range map[string]struct {
		raw  string
		want error
	}{
		"the first":                       {sign(t, shared, nil, one.claims(nil)), nil},
		"the second":                      {sign(t, shared, nil, two.claims(map[string]any{"aud": "api://two"})), nil},
		"the second with the first's aud": {sign(t, shared, nil, two.claims(nil)), token.ErrAudience},
		"the first with the second's aud": {sign(t, shared, nil, one.claims(map[string]any{"aud": "api://two"})), token.ErrAudience},
		"a third with the same keys":      {sign(t, shared, nil, third.claims(nil)), token.ErrMalformed},
		"the first by the second's key":   {sign(t, only, nil, one.claims(nil)), token.ErrMalformed},
	} {
		if _, err := verify(t, v, tt.raw); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
	if third.fetched.Load() != 0 {
		t.Error("the keys of an issuer that is not configured were fetched")
	}
}

func TestAHitAllocatesNothing(t *testing.T) {
	i := newIssuer(t, "/realm")
	v := onlyIssuer(i)
	raw := sign(t, i.newKey("k1"), nil, i.claims(nil))
	if _, err := verify(t, v, raw); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() { _, _ = v.VerifyFor(ctx, raw, audiences) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzVerify(f *testing.F) {
	i := newIssuer(f, "/realm")
	key := i.newKey("k1")
	v := verifier(external.Server{Issuer: i.url, JWKSURI: i.url[:len(i.url)-len("/realm")] + "/jwks"})
	good := sign(f, key, nil, i.claims(nil))
	f.Add(good)
	f.Add(strings.Replace(good, ".", "..", 1))
	f.Add(forge(`{"alg":"none"}`, i.claims(nil), func([]byte) []byte { return nil }))
	f.Add(forge(`{"alg":"ES256","kid":"k1","typ":"at+jwt"}`, i.claims(map[string]any{"aud": []any{1, nil}}), func(b []byte) []byte { return b[:64] }))
	if _, err := verify(f, v, good); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		// Nobody waits for keys that do not exist.
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		claims, err := v.VerifyFor(ctx, raw, audiences)
		switch {
		case err == nil && raw != good:
			// The last character of a part can have bits that carry nothing.
			if _, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.ES256}); err != nil || claims.Subject != "alice-1" {
				t.Errorf("%q is good: %+v", raw, claims)
			}
		case err != nil && claims != nil:
			t.Error("claims beside an error")
		case err != nil && !errors.Is(err, token.ErrMalformed) && !errors.Is(err, token.ErrExpired) && !errors.Is(err, token.ErrAudience) && !errors.Is(err, token.ErrUnavailable):
			t.Error(fmt.Errorf("an error of another kind: %w", err))
		}
	})
}
