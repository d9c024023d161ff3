package gate_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/gate"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// others is a verifier of tokens that somebody else issues. Every token has the
// scope, or is refused with the error.
type others struct {
	scope string
	err   error
	asked [][]string
}

func (o *others) VerifyFor(_ context.Context, _ string, audiences []string) (*token.Claims, error) {
	o.asked = append(o.asked, audiences)
	if o.err != nil {
		return nil, o.err
	}
	return &token.Claims{Scopes: oauth.ParseScope(o.scope)}, nil
}

func (*others) Revoked(*token.Claims) bool { return false }

const foreignToken = "token-of-somebody-else"

func TestTokensOfAnotherVerifier(t *testing.T) {
	away := fmt.Errorf("%w: the issuer is away", token.ErrUnavailable)
	for _, tt := range []struct {
		rule, token, scope string
		err                error
		anyScope           bool
		status             int // 0 when it passes
		reason             error
	}{
		{"a scope of the resource", foreignToken, "mcp", nil, false, 0, nil},
		{"another scope", foreignToken, "openid", nil, false, 403, gate.ErrScope},
		{"no scope", foreignToken, "", nil, false, 403, gate.ErrScope},
		{"another scope where none is asked for", foreignToken, "openid", nil, true, 0, nil},
		{"no scope where none is asked for", foreignToken, "", nil, true, 0, nil},
		{"a static token where none is asked for", narrowToken, "", nil, true, 0, nil},
		{"a static token without the scope", narrowToken, "", nil, false, 403, gate.ErrScope},
		{"another audience", foreignToken, "", token.ErrAudience, true, 401, token.ErrAudience},
		{"expired", foreignToken, "", token.ErrExpired, true, 401, token.ErrExpired},
		{"malformed", foreignToken, "", token.ErrMalformed, true, 401, token.ErrMalformed},
		{"nobody can tell", foreignToken, "", away, true, 503, token.ErrUnavailable},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			d := newDoor(t, func(c *gate.Config) { c.Verifier, c.AnyScope = &others{scope: tt.scope, err: tt.err}, tt.anyScope })
			_, refused, resp := d.check(request("POST", "/mcp", "Authorization", "Bearer "+tt.token))
			if tt.status == 0 {
				if refused != nil {
					t.Fatalf("refused: %+v", refused)
				}
				return
			}
			if refused == nil || refused.Status != tt.status || !errors.Is(refused.Reason, tt.reason) || resp.StatusCode != tt.status {
				t.Errorf("got %+v, want %d and %v", refused, tt.status, tt.reason)
			}
			// A challenge would make the client throw a good token away.
			if challenged := strings.Contains(resp.Header.Get("WWW-Authenticate"), metadata); challenged != (tt.status != 503) {
				t.Errorf("the challenge is %q", resp.Header.Get("WWW-Authenticate"))
			}
			if later := resp.Header.Get("Retry-After") != ""; later != (tt.status == 503) {
				t.Errorf("Retry-After is %q", resp.Header.Get("Retry-After"))
			}
		})
	}
}

// A resource goes by the addresses of all that are one upstream.
func TestTheAudiencesOfAResource(t *testing.T) {
	v := &others{scope: "mcp admin"}
	d := newDoor(t, func(c *gate.Config) { c.Verifier = v })
	d.check(request("POST", "/sse", "Authorization", "Bearer "+foreignToken))
	d.check(request("POST", "/mcp/admin", "Authorization", "Bearer "+foreignToken))
	want := [][]string{{issuer + "/mcp", issuer + "/sse", issuer + "/messages"}, {issuer + "/mcp/admin"}}
	if diff := cmp.Diff(want, v.asked); diff != "" {
		t.Error(diff)
	}
}
