package authserver

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver/pages"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// remembers reports whether what a person allows a client also answers its next
// request. That is so for websites which the configuration or their own metadata
// document names. Whoever receives what goes to the person's computer, or to the
// address of a self-registered client, could be anybody, so there the person is
// asked each time (MCP security best practices, RFC 8252 section 8.6).
func (s *Server) remembers(c *client.Client, redirectURI string) bool {
	if s.cfg.AlwaysAsk || !isWebsite(redirectURI) {
		return false
	}
	level := s.clientView(c, redirectURI).Level
	return level == pages.Configured || level == pages.Confirmed
}

// consentKey is what a remembered consent is for, beside the user and the scopes.
type consentKey struct{ clientID, redirectHost, resource string }

func newConsentKey(clientID, redirectURI, resource string) consentKey {
	key := consentKey{clientID: clientID, resource: resource}
	if u, err := url.Parse(redirectURI); err == nil {
		key.redirectHost = strings.ToLower(strings.TrimSuffix(u.Host, ":443"))
	}
	return key
}

func consentKeyOf(g *grant.Grant) consentKey {
	return newConsentKey(g.ClientID, g.Code.RedirectURI, g.Resource)
}

// memory is a consent that answers a request.
type memory struct {
	grantID string
	scopes  oauth.Scopes
}

// remembered returns what of a request its user has allowed before, or nil when the
// user has to be asked. The memory is the grant itself, for as long
// as it lives: who removes an app on the account page is asked again. One that can
// yield no more tokens, because it was made under another password, is none: a name
// may have been given to another person.
func (s *Server) remembered(ctx context.Context, tx *transaction, c *client.Client, current *session) (*memory, error) {
	if tx.Ask || !s.remembers(c, tx.RedirectURI) {
		return nil, nil
	}
	grants, err := s.grants.ListFor(ctx, current.User.Subject)
	if err != nil {
		return nil, unavailable(err)
	}
	key := newConsentKey(tx.ClientID, tx.RedirectURI, tx.Resource)
	asked := s.asked(tx, c, current.User)
	if len(asked) == 0 {
		return nil, nil
	}
	var newest *grant.Grant
	for _, g := range grants {
		fits := consentKeyOf(g) == key && asked.Within(g.Scopes) && (newest == nil || g.Created.After(newest.Created))
		if _, counts := s.current(ctx, g.User); fits && counts {
			newest = g
		}
	}
	if newest == nil {
		return nil, nil
	}
	// The optional scopes that were ticked then are part of the memory.
	return &memory{newest.ID, append(asked, s.choices(tx, c, current.User, asked).Narrow(newest.Scopes)...)}, nil
}

// answerRemembered answers a request that its user has allowed before, without a
// page. It reports false when the user has to be asked.
func (s *Server) answerRemembered(w http.ResponseWriter, r *http.Request, tx *transaction, c *client.Client, current *session) (bool, error) {
	if current == nil || !navigates(r) {
		return false, nil
	}
	known, err := s.remembered(r.Context(), tx, c, current)
	if err != nil || known == nil {
		return false, err
	}
	code, err := s.permit(r, tx, c, current, known.scopes)
	if err != nil {
		return false, err
	}
	if forgotten, err := s.forgottenSince(r.Context(), known, code); err != nil || forgotten {
		tx.ID = rand.Text() // the person is asked as for another request
		return false, err
	}
	s.auditAllowed(r, tx, known.scopes, code, audit.ByServer)
	sendBack(w, tx.RedirectURI, oauth.AuthorizationResponse{Code: code, State: tx.State, Issuer: s.cfg.Issuer})
	return true, nil
}

// forgottenSince reports whether the consent that a code was given for ended before
// the code was there: whoever has ended it has not seen the code, which ends here.
func (s *Server) forgottenSince(ctx context.Context, known *memory, code string) (bool, error) {
	_, err := s.grants.Find(ctx, known.grantID)
	if errors.Is(err, store.ErrNotFound) {
		return true, s.grants.Revoke(ctx, s.grants.KeyOf(code))
	}
	return false, err
}

// navigates reports whether a person's browser goes to the page now. A look ahead,
// or a frame, gets the page that asks, and leaves nothing behind.
func navigates(r *http.Request) bool {
	dest := r.Header.Get("Sec-Fetch-Dest")
	return r.Method == http.MethodGet && (dest == "" || dest == "document") &&
		r.Header.Get("Sec-Purpose") == "" && r.Header.Get("Purpose") == ""
}
