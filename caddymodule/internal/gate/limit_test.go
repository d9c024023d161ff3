package gate_test

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/gate"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/limit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics/metricstest"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

func limitedTo(n int) func(*gate.Config) {
	return func(c *gate.Config) { c.Limit = limit.NewCounts().Limit("mcp", n, time.Minute) }
}

func TestOneUsersFloodIsNobodyElses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor(t, limitedTo(3))
		post := func(token string) *gate.Refused {
			_, refused, _ := d.check(request("POST", "/mcp", "Authorization", "Bearer "+token))
			return refused
		}
		alice := func(change ...func(*oauth.AccessTokenClaims)) string { return d.mint("/mcp", "mcp", change...) }
		for range 3 {
			if refused := post(alice()); refused != nil {
				t.Fatalf("refused: %v", refused.Reason)
			}
		}
		for i := range 3 {
			if refused := post(alice()); refused == nil || refused.Status != http.StatusTooManyRequests || refused.Reason != gate.ErrLimited || refused.Again != (i > 0) {
				t.Errorf("the flood: %+v", refused)
			}
		}
		// Another grant, or another resource, of the same user and client is no way out.
		if post(alice(func(c *oauth.AccessTokenClaims) { c.GrantID = "another" })) == nil {
			t.Error("a second grant has a count of its own")
		}
		if _, refused, _ := d.check(request("POST", "/sse", "Authorization", "Bearer "+d.mint("/sse", "mcp"))); refused == nil {
			t.Error("another resource has a count of its own")
		}
		for who, raw := range map[string]string{
			"another user":         alice(func(c *oauth.AccessTokenClaims) { c.Subject = "bob" }),
			"another client":       alice(func(c *oauth.AccessTokenClaims) { c.ClientID = "mcp_2" }),
			"a part of both names": alice(func(c *oauth.AccessTokenClaims) { c.Subject, c.ClientID = "alic", "emcp_1" }),
			"a static token":       staticToken,
		} {
			if refused := post(raw); refused != nil {
				t.Errorf("%s: %v", who, refused.Reason)
			}
		}
		time.Sleep(time.Minute)
		if refused := post(alice()); refused != nil {
			t.Errorf("after the window: %v", refused.Reason)
		}
	})
}

func TestStaticTokensCountByThemselves(t *testing.T) {
	d := newDoor(t, limitedTo(3))
	admin := func(token string) *gate.Refused {
		_, refused, _ := d.check(request("POST", "/mcp/admin", "Authorization", "Bearer "+token))
		return refused
	}
	for range 3 {
		admin(staticToken)
	}
	if admin(staticToken) == nil {
		t.Error("a static token has no limit")
	}
	if refused := admin(narrowToken); refused != nil {
		t.Errorf("another static token: %v", refused.Reason)
	}
}

func TestWhatIsRefusedAnywayIsNotCounted(t *testing.T) {
	d := newDoor(t, limitedTo(1))
	good := d.mint("/mcp", "mcp")
	for range 5 {
		d.check(request("POST", "/mcp"))
		d.check(request("POST", "/mcp", "Authorization", "Bearer junk"))
		d.check(request("POST", "/mcp", "Authorization", "Bearer "+good, "Origin", "https://evil.example"))
		d.check(request("POST", "/mcp", "Authorization", "Bearer "+d.mint("/mcp", "other")))
		d.check(request("OPTIONS", "/mcp", "Origin", "https://a.example", "Access-Control-Request-Method", "POST"))
	}
	if _, refused, _ := d.check(request("POST", "/mcp", "Authorization", "Bearer "+good)); refused != nil {
		t.Errorf("refused: %v", refused.Reason)
	}
}

func TestTheAnswerToTooManyRequests(t *testing.T) {
	m := metrics.New()
	d := newDoor(t, limitedTo(1), func(c *gate.Config) { c.Metrics = m })
	good := d.mint("/mcp", "mcp")
	d.check(request("POST", "/mcp", "Authorization", "Bearer "+good))
	before := metricstest.Read(t, m)
	_, _, resp := d.check(request("POST", "/mcp", "Authorization", "Bearer "+good))
	var body map[string]string
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"error": "rate_limited", "error_description": "rate_limit mcp allows 1 in 1m; try again in 60 s"}
	if diff := cmp.Diff(want, body); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "Retry-After": "60", "Cache-Control": "no-store", "Access-Control-Allow-Origin": "*",
		"Access-Control-Expose-Headers": "WWW-Authenticate, Mcp-Session-Id, Retry-After", "WWW-Authenticate": "",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	got := metricstest.Read(t, m).Since(before)
	if got["rate_limited_total endpoint=mcp"] != 1 || got["token_validations_total result=limited"] != 1 {
		t.Errorf("counted %v", got)
	}
}

// issuers is a verifier whose tokens are the names of their issuers.
type issuers struct{ others }

func (*issuers) VerifyFor(_ context.Context, raw string, _ []string) (*token.Claims, error) {
	claims := &token.Claims{Scopes: oauth.Scopes{"mcp"}}
	claims.Issuer, claims.Subject, claims.ClientID = raw, "alice", "app"
	return claims, nil
}

func TestUsersOfSeveralIssuersAreToldApart(t *testing.T) {
	d := newDoor(t, limitedTo(1), func(c *gate.Config) { c.Verifier = &issuers{} })
	for _, iss := range []string{"issuer-a", "issuer-b"} {
		if _, refused, _ := d.check(request("POST", "/mcp", "Authorization", "Bearer "+iss)); refused != nil {
			t.Errorf("alice of %s: %v", iss, refused.Reason)
		}
	}
}
