package authserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/metrics"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// ClientInfo is a client as operators see it. It never holds a secret.
type ClientInfo struct {
	ID   string `json:"client_id"`
	Kind string `json:"kind"` // configured, added, registered or document
	Name string `json:"client_name,omitempty"`

	// Issued is when it was added or registered, Expires when it lapses unless
	// it is used. LastUsed is exact for what people have allowed, and to about a
	// day for what it does by itself.
	Issued   time.Time `json:"issued,omitzero"`
	LastUsed time.Time `json:"last_used,omitzero"`
	Expires  time.Time `json:"expires,omitzero"`
	Grants   int       `json:"grants"` // that are active

	// Overruled says that the configuration has a client with the same id, which
	// counts in place of this one.
	Overruled bool `json:"overruled,omitempty"`

	*ClientDetails
}

// ClientDetails are left out of lists.
type ClientDetails struct {
	RedirectURIs []string     `json:"redirect_uris,omitempty"`
	GrantTypes   []string     `json:"grant_types,omitempty"`
	Scopes       oauth.Scopes `json:"scopes,omitempty"`                     // none: all
	AuthMethod   string       `json:"token_endpoint_auth_method,omitempty"` // none, private_key_jwt or client_secret
	JWKSURI      string       `json:"jwks_uri,omitempty"`
}

var kindNames = map[client.Kind]string{
	client.Configured: "configured", client.Added: "added", client.Registered: "registered", client.Described: "document",
}

func (s *Server) newClientInfo(c *client.Client) ClientInfo {
	return ClientInfo{
		ID: c.ID, Kind: kindNames[c.Kind], Name: c.Name, Issued: c.Issued, LastUsed: c.LastUsed, Expires: c.Expires,
		Overruled: c.Kind != client.Configured && s.clients.IsConfigured(c.ID),
	}
}

func newClientDetails(c *client.Client) *ClientDetails {
	d := &ClientDetails{RedirectURIs: c.RedirectURIs, GrantTypes: c.GrantTypes, Scopes: c.Scopes, JWKSURI: c.JWKSURI}
	switch {
	case c.Signs():
		d.AuthMethod = oauth.AuthPrivateKeyJWT
	case c.Public():
		d.AuthMethod = oauth.AuthNone
	default:
		d.AuthMethod = "client_secret"
	}
	return d
}

// Clients returns the clients that are known, and how many more there are.
func (s *Server) Clients(ctx context.Context, limit int) ([]ClientInfo, int, error) {
	type use struct {
		grants int
		last   time.Time
	}
	uses := map[string]use{}
	for g, err := range s.grants.All(ctx) {
		if err != nil {
			return nil, 0, err
		}
		u := uses[g.ClientID]
		uses[g.ClientID] = use{u.grants + 1, later(u.last, g.LastUsed)}
	}
	out := newRecent(limit, func(a, b ClientInfo) int {
		return cmp.Or(b.LastUsed.Compare(a.LastUsed), b.Issued.Compare(a.Issued), cmp.Compare(a.ID, b.ID))
	})
	for c, err := range s.clients.All(ctx) {
		if err != nil {
			return nil, 0, err
		}
		info := s.newClientInfo(c)
		if !info.Overruled {
			info.Grants, info.LastUsed = uses[c.ID].grants, later(c.LastUsed, uses[c.ID].last)
		}
		out.add(info)
	}
	list, leftOut := out.list()
	return list, leftOut, nil
}

// Client returns a client with its details, or client.ErrUnknown.
func (s *Server) Client(ctx context.Context, id string) (ClientInfo, error) {
	var c *client.Client
	for _, configured := range s.cfg.Clients {
		if configured.ID == id {
			c = configured
		}
	}
	if c == nil {
		var err error
		if c, err = s.clients.Stored(ctx, id); err != nil {
			return ClientInfo{}, err
		}
	}
	info := s.newClientInfo(c)
	info.ClientDetails = newClientDetails(c)
	for g, err := range s.grants.All(ctx) {
		if err != nil {
			return ClientInfo{}, err
		}
		if g.ClientID == id {
			info.Grants++
			info.LastUsed = later(info.LastUsed, g.LastUsed)
		}
	}
	return info, nil
}

// ErrConfigured says that the configuration has a client with the id.
var ErrConfigured = errors.New("the configuration has a client with this id")

// reuseAfter is for how long after its removal an id cannot be used again. The
// tokens of a node whose clock is ahead would otherwise outlive the client.
const reuseAfter = time.Minute

// RestingError says that a client with the id was removed a moment ago.
type RestingError struct{ Until time.Time } // when the id is free

// Error implements error.
func (e *RestingError) Error() string {
	return fmt.Sprintf("a client with this id was removed a moment ago, and its tokens are refused for a minute. Try again in %d seconds",
		int(math.Ceil(time.Until(e.Until).Seconds())))
}

// AddClient adds a client, and returns its secret; "" for a client without one. An
// error that is neither a client.AdditionError, client.ErrExists, ErrConfigured nor a
// *RestingError means that the store failed.
func (s *Server) AddClient(ctx context.Context, a client.Addition) (ClientInfo, string, error) {
	if s.clients.IsConfigured(a.ID) {
		return ClientInfo{}, "", ErrConfigured
	}
	if err := s.checkAddition(ctx, a); err != nil {
		return ClientInfo{}, "", err
	}
	if until, removed := s.revoker.revocations.RemovedUntil(a.ID); removed {
		// Tokens have whole seconds, and those of the last one are refused too.
		if free := until.Add(time.Second); time.Now().Before(free) {
			return ClientInfo{}, "", &RestingError{free}
		}
	}
	c, secret, err := s.clients.Add(ctx, a)
	if err != nil {
		return ClientInfo{}, "", err
	}
	s.cfg.Audit.Write(ctx, audit.Event{
		Name: audit.ClientAdd, By: audit.ByOperator, ClientID: c.ID, GrantType: strings.Join(c.GrantTypes, " "), Scopes: c.Scopes,
	})
	info := s.newClientInfo(c)
	info.ClientDetails = newClientDetails(c)
	return info, secret, nil
}

// checkAddition refuses what does not fit the configuration.
func (s *Server) checkAddition(ctx context.Context, a client.Addition) error {
	if !s.cfg.OAuth {
		return client.AdditionError("no tokens are issued here, so no client could get one. Let somebody sign in, or configure a client, first")
	}
	if s.isUser(ctx, a.ID) {
		return client.AdditionError(fmt.Sprintf("%q is a user, and nobody could tell their requests apart", a.ID))
	}
	for _, scope := range a.Scopes {
		if !s.scopeNames().Has(scope) {
			return client.AdditionError(fmt.Sprintf("there is no scope %q; those are %s", scope, s.scopeNames()))
		}
	}
	if slices.Contains(a.GrantTypes, oauth.GrantDeviceCode) && !s.cfg.DeviceAuthorization {
		return client.AdditionError("the grant of devices is off. Add the line: device_authorization on")
	}
	return nil
}

// isUser reports whether there is a local user of that name.
func (s *Server) isUser(ctx context.Context, name string) bool {
	d, ok := s.directory()
	if !ok {
		return false
	}
	_, known := d.Lookup(ctx, name)
	return known
}

// Removal is what the removal of a client has ended.
type Removal struct {
	ClientID string `json:"client_id"`
	Kind     string `json:"kind,omitempty"` // as in ClientInfo; none when only grants were left
	Grants   int    `json:"grants"`

	// StillConfigured says that the configuration has the client, too, so that
	// nothing but its overruled copy in the store was removed.
	StillConfigured bool `json:"still_configured,omitempty"`
}

// RemoveClient removes a client that is in the store, and ends its grants and its
// access tokens. After an error it can be called again, and goes on. Without
// anything to remove, the error is client.ErrUnknown, or ErrConfigured.
func (s *Server) RemoveClient(ctx context.Context, id string) (Removal, error) {
	out := Removal{ClientID: id, StillConfigured: s.clients.IsConfigured(id)}
	c, err := s.clients.Stored(ctx, id)
	switch {
	case errors.Is(err, client.ErrUnknown) && out.StillConfigured:
		return out, ErrConfigured
	case errors.Is(err, client.ErrUnknown):
		// There may be grants that a removal of before has left, or a
		// registration that has lapsed.
	case err != nil:
		return out, err
	default:
		out.Kind = kindNames[c.Kind]
		if err := s.forgetClient(ctx, c, out.StillConfigured); err != nil {
			return out, err
		}
	}
	if !out.StillConfigured {
		out.Grants, err = s.grants.RevokeClient(ctx, id)
		s.cfg.Metrics.Revoked(metrics.ByAdmin, out.Grants)
		if c == nil && out.Grants == 0 {
			return out, cmp.Or(err, client.ErrUnknown)
		}
	}
	// Also when some grants are left: who goes on may find nothing to tell of.
	s.cfg.Audit.Write(ctx, audit.Event{Name: audit.ClientRemove, By: audit.ByOperator, ClientID: id, Count: out.Grants})
	return out, err
}

// forgetClient ends the access tokens of a client before it is gone, so that what
// fails in between can be done again.
func (s *Server) forgetClient(ctx context.Context, c *client.Client, overruled bool) error {
	if !overruled {
		if err := s.revoker.endClient(ctx, c.ID, refusedUntil(c)); err != nil {
			return err
		}
	}
	return s.clients.Remove(ctx, c.ID)
}

// refusedUntil is up to when the tokens of a client that is removed now are refused.
func refusedUntil(c *client.Client) time.Time {
	switch {
	case client.NeverReturns(c.ID):
		return time.Time{}
	case c.Kind == client.Described:
		return time.Now() // people can allow it again at once
	}
	return time.Now().Add(reuseAfter)
}
