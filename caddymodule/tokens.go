package caddymodule

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"slices"

	"go.uber.org/zap"
	"golang.org/x/term"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/gate"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// bearerSubject is who a request with a static token comes from.
const bearerSubject = "bearer"

// makeTokens prepares the static tokens of a site. When it accepts static tokens
// and has none, one is derived from the keys in the store: it is the same after
// every restart and on every node, and the store holds no copy of it.
func (s *site) makeTokens() {
	all := s.allScopes()
	s.apiTokens = s.issuer.tokens.View(all, prepareBearer)
	for _, t := range s.options.BearerTokens {
		scopes := all
		if len(t.Scopes) > 0 {
			scopes = t.Scopes
		}
		s.tokens = append(s.tokens, newStaticToken(t.Token, scopes))
	}
	if len(s.tokens) == 0 && s.static && !s.omit {
		s.generated = "mcp_" + base64.RawURLEncoding.EncodeToString(s.issuer.Keys.Derive("generated bearer token of "+s.origin))
		s.tokens = append(s.tokens, newStaticToken(s.generated, all))
	}
	if !s.static {
		// They still let clients register service accounts.
		s.initial, s.tokens = s.tokens, nil
	} else {
		s.initial = s.tokens
	}
}

// allScopes are the scopes of all resources of the site.
func (s *site) allScopes() oauth.Scopes {
	all := s.resources[0].Scopes
	for _, r := range s.resources[1:] {
		for _, scope := range r.Scopes {
			if !all.Has(scope) {
				all = append(slices.Clip(all), scope)
			}
		}
	}
	return all
}

func newStaticToken(secret string, scopes oauth.Scopes) gate.StaticToken {
	claims := &token.Claims{Scopes: scopes}
	claims.Subject, claims.ClientID, claims.Scope = bearerSubject, bearerSubject, scopes.String()
	sum := sha256.Sum256([]byte(secret))
	claims.ID = base64.RawURLEncoding.EncodeToString(sum[:]) // tells the tokens apart
	prepareBearer(claims)
	return gate.NewStaticToken(secret, claims)
}

// initialAccess says what a token lets clients register as. A service account is
// bound neither to some scopes nor to one resource, so a token that is cannot
// make one.
func (s *site) initialAccess(presented string) authserver.InitialAccess {
	claims, ok := gate.FindStatic(s.initial, presented)
	if !ok {
		claims, ok = s.apiTokens.FindInitial(presented)
	}
	switch {
	case !ok:
		return authserver.NoAccess
	case claims.Audience != "" || !s.allScopes().Within(claims.Scopes):
		return authserver.PeoplesClients
	}
	return authserver.AllClients
}

// announceToken says where the generated token can be seen. The token itself
// goes to a terminal only, never to a log.
func (s *site) announceToken(log *zap.Logger) {
	log.Info("requests need the generated bearer token; 'caddy mcp-auth token show' prints it")
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return
	}
	fmt.Fprintf(os.Stderr, "\nBearer token of %s:\n  %s\nFor Claude Code:\n  claude mcp add --transport http mcp %s --header \"Authorization: Bearer %s\"\n\n",
		s.origin, s.generated, s.resources[0].URL(), s.generated)
}

// configuredClients makes the clients of the configuration known.
func configuredClients(clients []Client) []*client.Client {
	var out []*client.Client
	for _, c := range clients {
		known := &client.Client{
			ID: c.ID, Kind: client.Configured, Name: c.Name, RedirectURIs: c.RedirectURIs,
			GrantTypes: c.grants(), Scopes: c.Scopes, JWKSURI: c.JWKSURI,
		}
		if known.Name == "" {
			known.Name = c.ID
		}
		if c.Secret != "" {
			known.Secret = newConfiguredSecret(c.Secret)
		}
		out = append(out, known)
	}
	return out
}

// documentPolicy says whose metadata documents are looked at.
func documentPolicy(r *Registration) client.DocumentPolicy {
	return client.DocumentPolicy{
		HostPolicy: hostPolicy(r.MetadataDocuments), Loopback: isSet(r.MetadataDocumentsOnLoopback),
	}
}

// registrationPolicy says who may register, and whether an initial access token is
// needed for it.
func registrationPolicy(r *Registration) (policy client.HostPolicy, protected bool) {
	if slices.Equal(r.Dynamic, []string{"token"}) {
		return client.HostPolicy{}, true
	}
	return hostPolicy(r.Dynamic), false
}

// hostPolicy reads "on", "off" or a list of hosts; nothing means on.
func hostPolicy(words []string) client.HostPolicy {
	switch {
	case slices.Equal(words, []string{"off"}):
		return client.HostPolicy{Off: true}
	case len(words) == 0, slices.Equal(words, []string{"on"}):
		return client.HostPolicy{}
	}
	return client.HostPolicy{Hosts: words}
}
