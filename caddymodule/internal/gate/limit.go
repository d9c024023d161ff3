package gate

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/limit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// limitedError is ErrLimited with what to say about it.
type limitedError struct {
	wait time.Duration
	news bool // nobody has been told of it yet
}

func (*limitedError) Error() string { return ErrLimited.Error() }

func (*limitedError) Unwrap() error { return ErrLimited }

// underLimit counts a request whose token is good. Requests without one cost little
// and count for nobody.
func (g *Gate) underLimit(r *http.Request, claims *token.Claims) error {
	if g.cfg.Limit == nil || claims == nil {
		return nil
	}
	if wait, news := g.cfg.Limit.Take(r.Context(), g.caller(claims)); wait > 0 {
		return &limitedError{wait, news}
	}
	return nil
}

// refuseLimited answers a request that is one too many.
func (g *Gate) refuseLimited(w http.ResponseWriter, r *http.Request, claims *token.Claims, err error) *Refused {
	limited, _ := errors.AsType[*limitedError](err)
	g.cfg.Metrics.RateLimited("mcp")
	w.Header().Set("Retry-After", strconv.Itoa(limit.Seconds(limited.wait)))
	refused := g.refuse(w, r, refusal{
		status: http.StatusTooManyRequests, body: refusalBody{"rate_limited", g.cfg.Limit.Explain(limited.wait)}, reason: ErrLimited,
		claims: claims,
	})
	refused.Again = !limited.news
	return refused
}

// caller is whom a request counts for at this site: a user with a client, so that
// no other user and no other app of the same user feels it, or one static token.
// Zero bytes keep the parts apart.
func (g *Gate) caller(c *token.Claims) string {
	key := g.cfg.Resources[0].Origin + "\x00" + c.Issuer + "\x00" + c.Subject + "\x00" + c.ClientID
	if c.Issuer == "" {
		key += "\x00" + c.ID
	}
	return key
}
