package caddymodule

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/gate"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/identity"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// upstreamLink is what requests for a resource take along to its upstream beside
// the forward lines. The zero upstreamLink takes nothing.
type upstreamLink struct {
	assertion  *Assertion
	signer     *identity.Signer
	credential *Credential
}

// headers are those that the link sets, which clients must not.
func (l *upstreamLink) headers() []string {
	var out []string
	if l.assertion != nil {
		out = append(out, l.assertion.headerName())
	}
	if l.credential != nil {
		out = append(out, l.credential.headerName())
	}
	return out
}

// makeLinks finds out what each resource's upstream is told.
func (s *site) makeLinks() {
	s.links = make(map[*oauth.Resource]*upstreamLink, len(s.resources))
	for i, r := range s.resources {
		l := &upstreamLink{assertion: s.options.ForwardAssertion, credential: s.options.UpstreamCredential}
		if len(s.options.Resources) > 0 {
			own := s.options.Resources[i]
			l.assertion, l.credential = cmp.Or(own.ForwardAssertion, l.assertion), cmp.Or(own.UpstreamCredential, l.credential)
		}
		if l.assertion != nil {
			l.signer = identity.NewSigner(s.issuer.Keys, s.assertionIssuer(), cmp.Or(l.assertion.Audience, s.firstOf(r).URL()))
		}
		s.links[r] = l
	}
}

// firstOf is the first resource of an upstream, which goes by its address.
func (s *site) firstOf(r *oauth.Resource) *oauth.Resource {
	return s.resources[slices.IndexFunc(s.resources, func(other *oauth.Resource) bool { return other.Group == r.Group })]
}

// asserts reports whether the site makes assertions.
func (s *site) asserts() bool {
	return s.options.ForwardAssertion != nil ||
		slices.ContainsFunc(s.options.Resources, func(r Resource) bool { return r.ForwardAssertion != nil })
}

// assertionIssuer is who signs the assertions of a site: the issuer of its
// tokens, or the site itself where that is none of this configuration.
func (s *site) assertionIssuer() string {
	if s.home == nil {
		return s.origin
	}
	return s.issuerURL()
}

// lent is the token of a login provider that goes to an upstream with a request.
type lent struct {
	server *authserver.Server
	claims *token.Claims
	access string
}

// doubt is called when the upstream does not accept the token.
func (t *lent) doubt() { t.server.Doubt(t.claims, t.access) }

// lend gets the token that the upstream of a request needs, or writes a refusal.
// Without a need for one it returns nil.
func (s *site) lend(w http.ResponseWriter, r *http.Request, passed gate.Pass) (*lent, *gate.Refused) {
	c := s.links[passed.Resource].credential
	if c == nil || c.Login == "" {
		return nil, nil
	}
	if passed.Claims == nil {
		return nil, s.gate.RefuseOtherSignIn(w, r)
	}
	access, err := s.home.auth.Lend(audited(r), c.Login, passed.Claims)
	switch {
	case errors.Is(err, authserver.ErrSignInAgain):
		return nil, s.gate.RefuseSignIn(w, r, passed)
	case errors.Is(err, authserver.ErrOtherSignIn):
		return nil, s.gate.RefuseOtherSignIn(w, r)
	case err != nil:
		return nil, s.gate.RefuseUnavailable(w, r, err)
	}
	return &lent{s.home.auth, passed.Claims, access}, nil
}

// lends reports whether some upstream of the site is called with the tokens of a
// login.
func (s *site) lends(login string) bool {
	for c := range s.credentials() {
		if c.Login == login {
			return true
		}
	}
	return false
}

// credentials are those of all upstreams of the site.
func (s *site) credentials() iter.Seq[*Credential] {
	return func(yield func(*Credential) bool) {
		if c := s.options.UpstreamCredential; c != nil && !yield(c) {
			return
		}
		for _, r := range s.options.Resources {
			if r.UpstreamCredential != nil && !yield(r.UpstreamCredential) {
				return
			}
		}
	}
}

// checkUpstreamLines looks again at what upstreams are told, as lines of the site and
// of the global options can be about one header.
func checkUpstreamLines(s *site) error {
	var f faults
	s.options.validateUpstreams(&f)
	return f.first
}

// checkDelegates refuses to call upstreams with tokens of a login that is not
// there, or that gives none.
func checkDelegates(s *site) error {
	for c := range s.credentials() {
		switch {
		case c.Login == "":
		case s.omit:
			return fmt.Errorf("upstream_credential login %s needs people who sign in, and with dangerously_omit_auth nobody does. Take one of the lines away", c.Login)
		case s.external():
			return fmt.Errorf("upstream_credential login %s needs people who sign in here, and with authorization_server they do so elsewhere. Take one of the lines away", c.Login)
		case s.home == nil || !s.signsInAt(c.Login):
			return fmt.Errorf("upstream_credential login %s names no OpenID provider that people sign in at. Add a block: login oidc %s { … }",
				c.Login, c.Login)
		}
	}
	return nil
}

// signsInAt reports whether people sign in at an OpenID provider by the name.
func (s *site) signsInAt(login string) bool {
	return s.oauth && slices.ContainsFunc(s.home.logins, func(m LoginModule) bool {
		l, ok := m.(*OIDCLogin)
		return ok && l.ID == login
	})
}

// tell adds to a request what its upstream is told. The header becomes one of its
// own: the web server shows the one that came to its routes for errors, which may
// lead to other servers when the upstream is down.
func (s *site) tell(r *http.Request, l *upstreamLink, c *token.Claims, borrowed *lent) error {
	if len(s.forward) == 0 && l.credential == nil && l.assertion == nil {
		return nil
	}
	r.Header = maps.Clone(r.Header)
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	for _, f := range s.forward {
		if value := headerValue(repl.ReplaceAll(f.Value, "")); value != "" {
			r.Header[f.Header] = []string{value}
		}
	}
	return l.identify(r.Header, c, borrowed)
}

// identify adds what proves who is calling.
func (l *upstreamLink) identify(h http.Header, c *token.Claims, borrowed *lent) error {
	if l.credential != nil {
		secret := l.credential.Secret
		if borrowed != nil {
			secret = borrowed.access
		}
		h[l.credential.headerName()] = []string{l.credential.headerValue(secret)}
	}
	if l.assertion == nil || c == nil {
		return nil
	}
	raw, err := l.signer.Assert(c, &bearerOf(c).assertions)
	if err != nil {
		return err
	}
	h[l.assertion.headerName()] = []string{l.assertion.headerValue(raw)}
	return nil
}

// announceAssertions tells upstreams' operators where the keys are.
func (s *site) announceAssertions(log *zap.Logger) {
	if s.asserts() && !s.omit {
		log.Info("assertions about callers are signed with the keys at jwks_uri",
			zap.String("issuer", s.assertionIssuer()), zap.String("jwks_uri", s.assertionIssuer()+"/jwks"))
	}
}
