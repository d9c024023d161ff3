// This file implements draft-ietf-oauth-identity-assertion-authz-grant (Identity
// Assertion JWT Authorization Grant): whom an assertion of the provider is about.

package oidclogin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/assertion"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/jwks"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// keysLifetime is how long keys are used before they are fetched again. A key that
// the provider takes away is refused that much later.
const keysLifetime = 10 * time.Minute

// Asserting is a login at a provider whose assertions are believed as well.
type Asserting struct {
	*Provider
	keys *jwks.Cache
}

// NewAsserting returns a login that also believes the provider's assertions.
func NewAsserting(cfg Config) *Asserting {
	a := &Asserting{Provider: New(cfg)}
	log := cfg.Log
	if log == nil {
		log = zap.NewNop()
	}
	a.keys = jwks.NewCache(cfg.Issuer, a.fetchKeys, log)
	return a
}

// Issuer implements login.Asserter.
func (a *Asserting) Issuer() string { return a.cfg.Issuer }

// Assert implements login.Asserter. Strangers get here with assertions that nobody
// has signed, so the keys come from a cache that they cannot make ask the provider
// often.
func (a *Asserting) Assert(ctx context.Context, raw string) (login.Identity, error) {
	signed, err := jose.ParseSignedCompact(raw, assertion.Algorithms)
	if err != nil || len(signed.Signatures) != 1 {
		return login.Identity{}, errors.New("it is not a JWT with one of the signature algorithms")
	}
	_, err = a.keys.Verify(ctx, signed, time.Now())
	switch {
	case errors.Is(err, jwks.ErrUnavailable):
		return login.Identity{}, unreachable(err)
	case err != nil:
		return login.Identity{}, err
	}
	var c claims
	if err := json.Unmarshal(signed.UnsafePayloadWithoutVerification(), &c); err != nil {
		return login.Identity{}, errors.New("its claims cannot be read")
	}
	var iss, sub string
	if json.Unmarshal(c["iss"], &iss) != nil || iss != a.cfg.Issuer || json.Unmarshal(c["sub"], &sub) != nil {
		return login.Identity{}, errors.New("its iss or its sub is missing or wrong")
	}
	return a.identity(sub, c)
}

// fetchKeys fetches the keys from where the provider says that they are.
func (a *Asserting) fetchKeys(ctx context.Context) ([]jwks.Key, time.Duration, error) {
	m, err := a.discover(ctx)
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.jwksURI, nil)
	if err != nil {
		return nil, 0, errors.New("the jwks_uri of the provider is no address")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, 0, unreachable(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("its keys are answered with %d", resp.StatusCode)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, 0, errors.New("its keys did not arrive whole")
	}
	keys, err := jwks.Parse(body)
	return keys, keysLifetime, err
}

// Interface guards
var (
	_ login.Redirect = (*Asserting)(nil)
	_ login.Asserter = (*Asserting)(nil)
)
