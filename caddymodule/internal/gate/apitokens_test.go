package gate_test

import (
	"net/http"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/apitoken"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/gate"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
)

// newTokenDoor is a door that also takes tokens which are made by command.
func newTokenDoor(t testing.TB, change ...func(*gate.Config)) (*door, *apitoken.Tokens) {
	t.Helper()
	s := memstore.New(0)
	t.Cleanup(func() { _ = s.Close() })
	tokens, err := apitoken.Open(t.Context(), s, "test/", zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return newDoor(t, append(change, func(c *gate.Config) { c.APITokens = tokens.View(oauth.Scopes{"mcp", "admin"}, nil) })...), tokens
}

func makeToken(t testing.TB, tokens *apitoken.Tokens, spec apitoken.Spec) string {
	t.Helper()
	secret, _, err := tokens.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func TestATokenMadeByCommandIsCheckedLikeOthers(t *testing.T) {
	d, tokens := newTokenDoor(t, func(c *gate.Config) { c.QueryToken = true })
	all := makeToken(t, tokens, apitoken.Spec{Name: "all"})
	admin := makeToken(t, tokens, apitoken.Spec{Name: "admin", Scopes: oauth.Scopes{"admin"}})
	narrow := makeToken(t, tokens, apitoken.Spec{Name: "narrow", Resource: issuer + "/sse"})
	registration := makeToken(t, tokens, apitoken.Spec{Name: "registration", RegistrationOnly: true})
	revoked := makeToken(t, tokens, apitoken.Spec{Name: "revoked"})
	if err := tokens.Revoke(t.Context(), "revoked"); err != nil {
		t.Fatal(err)
	}
	adminInvalid := strings.ReplaceAll(strings.ReplaceAll(invalid, "resource/mcp", "resource/mcp/admin"), `scope="mcp"`, `scope="admin"`)
	for _, r := range []*http.Request{
		request("POST", "/mcp", "Authorization", "Bearer "+all), request("POST", "/mcp/admin", "Authorization", "Bearer "+all),
		request("POST", "/mcp/admin", "Authorization", "Bearer "+admin), request("POST", "/mcp?token="+all),
		request("POST", "/messages", "Authorization", "Bearer "+narrow), // of the group of its resource
	} {
		if claims, refused, _ := d.check(r); refused != nil || claims == nil {
			t.Errorf("%s: %v", r.URL, refused)
		}
	}
	d.refuses([]refusal{
		{"without a scope of the resource", request("POST", "/mcp", "Authorization", "Bearer "+admin), 403, forbidden + `, scope="admin mcp"`},
		{"for another resource", request("POST", "/mcp/admin", "Authorization", "Bearer "+narrow), 401, adminInvalid},
		{"for registration only", request("POST", "/mcp", "Authorization", "Bearer "+registration), 401, invalid},
		{"that was revoked", request("POST", "/mcp", "Authorization", "Bearer "+revoked), 401, invalid},
		{"from a foreign page", request("POST", "/mcp", "Authorization", "Bearer "+all, "Origin", "https://evil.example"), 403, ""},
	})
	without := newDoor(t)
	without.refuses([]refusal{{"where none is taken", request("POST", "/mcp", "Authorization", "Bearer "+all), 401, invalid}})
}

func TestRevokingATokenMadeByCommandEndsItsStreams(t *testing.T) {
	streams := gate.NewStreams()
	d, tokens := newTokenDoor(t, func(c *gate.Config) { c.Streams, c.Verifier, c.Issuers = streams, nil, nil })
	tokens.Notify(streams.Close)
	claims, _, _ := d.check(request("GET", "/mcp", "Authorization", "Bearer "+makeToken(t, tokens, apitoken.Spec{Name: "ci"})))
	other, _, _ := d.check(request("GET", "/mcp", "Authorization", "Bearer "+makeToken(t, tokens, apitoken.Spec{Name: "other"})))
	stream, finish := streamOf(t, d.Gate, claims.GrantID, "text/event-stream")
	defer finish()
	kept, finishKept := streamOf(t, d.Gate, other.GrantID, "text/event-stream")
	defer finishKept()
	if isClosed(stream) {
		t.Fatal("the stream ends at once")
	}
	if err := tokens.Revoke(t.Context(), "ci"); err != nil {
		t.Fatal(err)
	}
	if !isClosed(stream) || isClosed(kept) {
		t.Errorf("the stream has ended: %v, that of another token: %v", isClosed(stream), isClosed(kept))
	}
	// A request that was let through just before.
	late, finishLate := streamOf(t, d.Gate, claims.GrantID, "text/event-stream")
	defer finishLate()
	if !isClosed(late) {
		t.Error("a stream that begins after the token was revoked goes on")
	}
}
