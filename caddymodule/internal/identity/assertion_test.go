package identity_test

import (
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/identity"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
)

const (
	issuer   = "https://mcp.example.com"
	audience = "https://mcp.example.com/mcp"
)

func newKeys(t testing.TB) *token.Keys {
	t.Helper()
	s := memstore.New(0)
	t.Cleanup(func() { _ = s.Close() })
	keys, err := token.OpenKeys(t.Context(), s, "test/", token.KeysConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func alice() *token.Claims {
	return &token.Claims{AccessTokenClaims: oauth.AccessTokenClaims{
		Issuer: issuer, Subject: "alice", Audience: audience, ClientID: "mcp_1", Scope: "bugs:read mcp", GrantID: "secret-grant", ID: "secret-id",
		Email: "alice@example.com", Name: "Alice", Groups: []string{"staff"},
	}}
}

// open verifies an assertion as an upstream does, with the public keys.
func open(t *testing.T, keys *token.Keys, raw string) (typ any, claims map[string]any) {
	t.Helper()
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(keys.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	signed, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := signed.Verify(set)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return signed.Signatures[0].Protected.ExtraHeaders[jose.HeaderType], claims
}

func assert(t testing.TB, s *identity.Signer, c *token.Claims, k *identity.Kept) string {
	t.Helper()
	raw, err := s.Assert(c, k)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestAnAssertionTellsWhoCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t)
		now := float64(time.Now().Unix())
		foreign := alice()
		foreign.Issuer, foreign.Email, foreign.Name, foreign.Groups = "https://id.example.com", "", "", nil
		for _, tt := range []struct {
			rule   string
			claims *token.Claims
			want   map[string]any
		}{
			{"a user", alice(), map[string]any{
				"iss": issuer, "aud": audience, "sub": "alice", "client_id": "mcp_1", "scope": "bugs:read mcp", "email": "alice@example.com",
				"name": "Alice", "groups": []any{"staff"}, "iat": now, "exp": now + 300,
			}},
			{"a user of another issuer", foreign, map[string]any{
				"iss": issuer, "aud": audience, "sub": "alice", "client_id": "mcp_1", "scope": "bugs:read mcp",
				"token_issuer": "https://id.example.com", "iat": now, "exp": now + 300,
			}},
		} {
			typ, got := open(t, keys, assert(t, identity.NewSigner(keys, issuer, audience), tt.claims, new(identity.Kept)))
			if typ != "mcp-identity+jwt" {
				t.Errorf("the type is %v", typ)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.rule, diff)
			}
		}
	})
}

// An assertion is signed with the keys of access tokens, and is none: not even
// where its audience is the resource.
func TestAnAssertionIsNoAccessToken(t *testing.T) {
	keys := newKeys(t)
	revocations, err := token.OpenRevocations(t.Context(), memstore.New(0), "test/", zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	v := token.NewVerifier(issuer, keys, revocations, nil)
	raw := assert(t, identity.NewSigner(keys, issuer, audience), alice(), new(identity.Kept))
	if claims, err := v.VerifyFor(t.Context(), raw, []string{audience}); !errors.Is(err, token.ErrMalformed) {
		t.Errorf("an assertion passes as an access token: %v, %v", claims, err)
	}
	access, err := keys.Mint(alice().AccessTokenClaims, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.VerifyFor(t.Context(), access, []string{audience}); err != nil {
		t.Errorf("an access token does not pass: %v", err)
	}
}

func TestAnAssertionIsSignedOnceInHalfItsLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t)
		s, other := identity.NewSigner(keys, issuer, audience), identity.NewSigner(keys, issuer, "https://other.example")
		c, k := alice(), new(identity.Kept)
		first := assert(t, s, c, k)
		time.Sleep(150*time.Second - time.Nanosecond)
		if assert(t, s, c, k) != first {
			t.Error("a new one before half of the lifetime was over")
		}
		elsewhere := assert(t, other, c, k)
		if elsewhere == first || assert(t, s, c, k) != first || assert(t, other, c, k) != elsewhere {
			t.Error("two upstreams do not have one assertion each")
		}
		if assert(t, s, c, new(identity.Kept)) == first {
			t.Error("two tokens share an assertion")
		}
		if assert(t, identity.NewSigner(keys, "https://new.example.com", audience), c, k) == first {
			t.Error("an assertion of another issuer is used")
		}
		time.Sleep(time.Second)
		second := assert(t, s, c, k)
		if second == first {
			t.Error("the same one after half of the lifetime")
		}
		if _, err := keys.Rotate(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		third := assert(t, s, c, k)
		if third == second {
			t.Error("an assertion of a key that was taken away is used")
		}
		open(t, keys, third)
	})
}

func TestAssertionsAtOnce(t *testing.T) {
	keys := newKeys(t)
	s, c, k := identity.NewSigner(keys, issuer, audience), alice(), new(identity.Kept)
	made := make([]string, 16)
	var wg sync.WaitGroup
	for i := range made {
		wg.Go(func() { made[i], _ = s.Assert(c, k) })
	}
	wg.Wait()
	for _, raw := range made {
		if raw == "" || raw != made[0] {
			t.Fatal("requests at once have several assertions")
		}
	}
}

func BenchmarkAssert(b *testing.B) {
	keys := newKeys(b)
	s, c, k := identity.NewSigner(keys, issuer, audience), alice(), new(identity.Kept)
	b.ReportAllocs()
	for b.Loop() {
		assert(b, s, c, k)
	}
}
