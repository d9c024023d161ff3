package caddymodule

import (
	"cmp"
	"net/http"
	"slices"

	"go.uber.org/zap"

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

// identify adds to a request what its upstream is told.
func (l *upstreamLink) identify(h http.Header, c *token.Claims) error {
	if l.credential != nil {
		h[l.credential.headerName()] = []string{l.credential.headerValue(l.credential.Secret)}
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
