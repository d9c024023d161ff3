package apitoken_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/apitoken"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

func TestATokenHasTheClaimsItWasMadeFor(t *testing.T) {
	n := newNode(t, newStore(t))
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	for name, tt := range map[string]struct {
		spec apitoken.Spec
		want oauth.AccessTokenClaims
	}{
		"all": {apitoken.Spec{Name: "all"}, oauth.AccessTokenClaims{Scope: "read write"}},
		"narrow": {
			apitoken.Spec{Name: "narrow", Scopes: oauth.Scopes{"read"}, Resource: "https://mcp.example.com/mcp", Expires: expires},
			oauth.AccessTokenClaims{Scope: "read", Audience: "https://mcp.example.com/mcp", Expires: expires.Unix()},
		},
	} {
		secret, info, err := n.Create(t.Context(), tt.spec)
		if err != nil {
			t.Fatal(err)
		}
		claims, ok := n.view.Find(secret)
		if !ok {
			t.Fatalf("%s: not found", name)
		}
		if claims.GrantID == "" || n.view.Revoked(claims.GrantID) || claims.IssuedAt != info.Created.Unix() {
			t.Errorf("%s: the claims are %+v", name, claims)
		}
		tt.want.Subject, tt.want.ClientID = "token:"+name, "token:"+name
		tt.want.GrantID, tt.want.IssuedAt = claims.GrantID, claims.IssuedAt
		if diff := cmp.Diff(tt.want, claims.AccessTokenClaims); diff != "" || claims.Scopes.String() != claims.Scope {
			t.Errorf("%s: %s, scopes %v", name, diff, claims.Scopes)
		}
		if again, _ := n.view.Find(secret); again != claims {
			t.Errorf("%s: the claims are made anew for each request", name)
		}
	}
}

func TestTheClaimsAreThoseOfTheSite(t *testing.T) {
	n := newNode(t, newStore(t))
	prepared := 0
	other := n.View(oauth.Scopes{"admin"}, func(c *token.Claims) { prepared++ })
	secret := n.make(apitoken.Spec{Name: "ci"})
	for range 3 {
		if claims, ok := other.Find(secret); !ok || claims.Scope != "admin" {
			t.Fatalf("found %v with %+v", ok, claims)
		}
	}
	if prepared != 1 {
		t.Errorf("prepared %d times", prepared)
	}
}

func TestATokenForRegistrationIsNoneForRequests(t *testing.T) {
	n := newNode(t, newStore(t))
	secret, usual := n.make(apitoken.Spec{Name: "rollout", RegistrationOnly: true}), n.make(apitoken.Spec{Name: "ci"})
	if n.finds(secret) {
		t.Error("it opens MCP servers")
	}
	for _, s := range []string{secret, usual} {
		if _, ok := n.view.FindInitial(s); !ok {
			t.Error("it registers nothing")
		}
	}
}

func TestUnknownTokensAreRefusedWithoutTheStore(t *testing.T) {
	s := storetest.NewFaulty(newStore(t))
	n := newNode(t, s)
	secret := n.make(apitoken.Spec{Name: "ci"})
	calls := len(s.Calls())
	for _, presented := range []string{
		"", "mcp_", secret[:46], secret + "A", strings.ToUpper(secret), "mcp_" + strings.Repeat("A", 43), "xcp_" + secret[4:], strings.Repeat("\x00", 47),
	} {
		if n.finds(presented) {
			t.Errorf("%q is found", presented)
		}
		if _, ok := n.view.FindInitial(presented); ok {
			t.Errorf("%q lets clients register", presented)
		}
	}
	if !n.finds(secret) {
		t.Error("the token itself is not found")
	}
	if made := len(s.Calls()) - calls; made != 0 {
		t.Errorf("%d calls of the store", made)
	}
}

// BenchmarkFind is what the tokens cost requests that come with another one, and
// those that come with one of them.
func BenchmarkFind(b *testing.B) {
	n := newNode(b, newStore(b))
	for i := range apitoken.MaxTokens - 1 {
		n.make(apitoken.Spec{Name: fmt.Sprint("t", i)})
	}
	secret := n.make(apitoken.Spec{Name: "ci"})
	for name, presented := range map[string]string{"an access token": strings.Repeat("e", 600), "one of them": secret, "junk": "mcp_" + strings.Repeat("A", 43)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				n.view.Find(presented)
			}
		})
	}
}
