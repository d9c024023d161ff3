package authserver

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/assertion"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/login"
)

// identityAssertion is an assertion by which a provider vouches for a person and
// for the client that acts for them. Nothing in it is known to be true before
// believe has checked it.
type identityAssertion struct {
	*assertion.Assertion
	raw      string
	from     login.Asserter
	clientID string
	resource resources
	scope    *string // nil when the provider leaves the scopes to this server
}

// resources is one resource, or a list of some.
type resources []string

// UnmarshalJSON implements json.Unmarshaler.
func (r *resources) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*r = resources{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(r))
}

// badIdentity puts what is wrong with an assertion into the words of the protocol.
func badIdentity(what string) *oauth.Error { return oauth.InvalidGrant("the assertion " + what) }

// readIdentityAssertion reads the assertion of a request and checks all that can
// be checked without a key and without knowing the client.
func (s *Server) readIdentityAssertion(p *params) (*identityAssertion, error) {
	raw := p.get("assertion")
	switch {
	case p.err() != nil:
		return nil, p.err()
	case raw == "":
		return nil, oauth.InvalidRequest("assertion is missing")
	}
	parsed, err := assertion.Parse(raw, oauth.IdentityAssertionType)
	if err != nil {
		return nil, badIdentity(err.Error())
	}
	a := &identityAssertion{Assertion: parsed, raw: raw}
	i := slices.IndexFunc(s.cfg.Asserters, func(l login.Asserter) bool { return l.Issuer() == a.Issuer })
	if i < 0 {
		return nil, badIdentity("is of an issuer that is not trusted here")
	}
	a.from = s.cfg.Asserters[i]
	if err := a.Check([]string{s.cfg.Issuer}, time.Now()); err != nil {
		return nil, badIdentity(err.Error())
	}
	switch {
	case a.IssuedAt == nil:
		return nil, badIdentity("has no iat")
	case *a.Expires-*a.IssuedAt > assertion.Lifetime.Seconds():
		return nil, badIdentity("is good for more than an hour")
	case a.Subject == "":
		return nil, badIdentity("has no sub")
	case a.Claim("client_id", &a.clientID) != nil || a.clientID == "":
		return nil, badIdentity("has no client_id")
	case a.Claim("scope", &a.scope) != nil || a.Has("scope") && a.scope == nil:
		return nil, badIdentity("has a scope of the wrong type")
	case a.Claim("resource", &a.resource) != nil || a.Has("resource") && len(a.resource) == 0:
		return nil, badIdentity("has a resource of the wrong type")
	}
	return a, nil
}

// believe returns whom the assertion is about, once it is known that the provider
// has signed it.
func (a *identityAssertion) believe(ctx context.Context) (login.Identity, error) {
	user, err := a.from.Assert(ctx, a.raw)
	switch {
	case errors.Is(err, login.ErrUnreachable):
		return user, oauth.TemporarilyUnavailable(err)
	case err != nil:
		return user, badIdentity("is not believed").Because(err)
	}
	return user, nil
}

// vouchedByAssertion lets the assertion name a client with a metadata document that
// nobody has allowed anything yet: here the provider vouches for it, in place of a
// person who looks at a page. Its signature is checked first, so strangers make
// this server fetch nothing.
func vouchedByAssertion(ctx context.Context, s *Server, p *params, id string) (bool, error) {
	a, err := s.readIdentityAssertion(p)
	if err != nil || a.clientID != id {
		return false, err
	}
	_, err = a.believe(ctx)
	return err == nil, err
}

// assertedSubject is whom an assertion says that it is about, true or not.
func assertedSubject(p *params) string {
	a, err := assertion.Parse(p.get("assertion"), oauth.IdentityAssertionType)
	if err != nil {
		return ""
	}
	return a.Issuer + " " + a.Subject
}

// issueForAssertion gives a client what a provider has vouched for (RFC 7523
// section 2.1). There is no refresh token: how long it goes on is up to the
// provider, which the client asks for another assertion.
func issueForAssertion(ctx context.Context, s *Server, req *tokenRequest) (*issuance, error) {
	a, err := s.readIdentityAssertion(req.params)
	if err != nil {
		return nil, err
	}
	if a.clientID != req.client.ID {
		return nil, badIdentity("is for another client")
	}
	user, err := a.believe(ctx)
	if err != nil {
		return nil, err
	}
	knowUser(ctx, user)
	if !s.admits(user) {
		return nil, badIdentity("is about somebody who is not allowed in here")
	}
	user.Groups = s.keepGroups(user.Groups)
	target, err := s.assertedResource(a, req.resource)
	if err != nil {
		return nil, err
	}
	scopes, err := s.assertedScopes(a, req, user, target)
	if err != nil {
		return nil, err
	}
	// Last, so that a refused request uses nothing up.
	err = s.clients.UseUp(ctx, a.Assertion, "identity", a.Issuer)
	if refusal, ok := errors.AsType[assertion.Refusal](err); ok {
		return nil, badIdentity(refusal.Error())
	}
	if err != nil {
		return nil, err
	}
	return &issuance{user: user, grantID: rand.Text(), resource: target.URL(), scopes: scopes}, nil
}

// assertedResource is the resource that the token is for: the one that the request
// picks of those in the assertion, or the first of them. All of those have to be
// resources of this server, or the assertion may have been made for another one.
func (s *Server) assertedResource(a *identityAssertion, picked *oauth.Resource) (*oauth.Resource, error) {
	var asserted []*oauth.Resource
	for _, uri := range a.resource {
		r, err := s.resource(uri)
		if err != nil || uri == "" {
			return nil, badIdentity("is for a resource that this server does not protect")
		}
		asserted = append(asserted, r)
	}
	switch {
	case picked == nil && len(asserted) == 0:
		return s.cfg.Resources[0], nil
	case picked == nil:
		return asserted[0], nil
	case len(asserted) > 0 && !slices.Contains(asserted, picked):
		return nil, badIdentity("is for another resource")
	}
	return picked, nil
}

// assertedScopes are the scopes of the token: those of the request, the assertion,
// the resource, the client and the user at once. Where the assertion names none,
// nobody has agreed to more than what is asked for by default.
func (s *Server) assertedScopes(a *identityAssertion, req *tokenRequest, user login.Identity, target *oauth.Resource) (oauth.Scopes, error) {
	asserted := target.Baseline
	if a.scope != nil {
		asserted = oauth.ParseScope(*a.scope).Narrow(target.Scopes)
	}
	asserted = s.permitted(user, req.client, asserted)
	if len(asserted) == 0 {
		return nil, badIdentity("has no scope that this client and this user could have here")
	}
	requested := oauth.ParseScope(req.scope)
	if len(requested) == 0 {
		return asserted, nil
	}
	scopes := append(asserted, s.implied(asserted, req.client, user)...).Narrow(target.Scopes).Narrow(requested)
	if len(scopes) == 0 {
		return nil, oauth.InvalidScope("none of the scopes is in the assertion")
	}
	return scopes, nil
}
