package caddymodule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/apitoken"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/audit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/external"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/gate"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/policy"
)

// site is a handler ready to serve.
type site struct {
	handler *Handler
	options Options // merged with those of the app
	places  []place
	logins  []LoginModule // beside the users of the options
	origin  string        // public, without a trailing slash
	host    string        // of the origin, without the port
	anyHost bool          // the web server sends it requests for hosts that are not its own

	// home is the site that issues the tokens and whose options say who gets
	// them: this one, or another one that is at the issuer's origin. It is nil
	// when no site of the configuration is.
	home *site

	oauth, static bool // which tokens are good
	omit          bool

	issuer    *issuerState
	resources []*oauth.Resource
	scopes    []authserver.Scope
	policy    *policy.Scopes // what the scopes say about requests; nil for nothing
	tokens    []gate.StaticToken
	initial   []gate.StaticToken // tokens that let clients register
	apiTokens *apitoken.View     // the tokens that were made by command
	generated string             // the token that was made because none is configured

	audit       *audit.Log
	auditsCalls bool

	gate    *gate.Gate
	auth    *authserver.Server // without OAuth endpoints when the home is at another origin
	forward []Forward
	links   map[*oauth.Resource]*upstreamLink
}

// issuerURL is the issuer identifier of the site.
func (s *site) issuerURL() string { return strings.TrimSuffix(cmp.Or(s.options.Issuer, s.origin), "/") }

// hostAllowed keeps requests out that were made for another name, such as those
// of a page whose name was made to point here (DNS rebinding). Where the web
// server chooses sites by host it has done so already. Trusted proxies may use a
// name of their own, and so may health checks.
func (s *site) hostAllowed(r *http.Request, path string) bool {
	if !s.anyHost || path == "/health" || fromTrustedProxy(r) {
		return true
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.EqualFold(strings.Trim(host, "[]"), s.host)
}

// decideOmit checks that authentication is left out on loopback only.
func (s *site) decideOmit() error {
	switch s.options.DangerouslyOmitAuth {
	case "false":
		return nil
	case "true":
		if slices.ContainsFunc(s.places, func(p place) bool { return !p.loopback }) {
			return errors.New("dangerously_omit_auth opens this server to everyone who can reach it. " +
				"Listen on loopback only by adding the line: bind 127.0.0.1; or, if everyone shall have access: dangerously_omit_auth anywhere")
		}
	}
	s.omit = true
	return nil
}

// decideAuthType finds out which tokens the site accepts.
func (s *site) decideAuthType() error {
	issued := s.home != nil && s.home.issuesTokens()
	switch s.options.AuthType {
	case "bearer":
		s.static = true
	case "oauth2.1":
		s.oauth = true
	case "both":
		s.oauth, s.static = true, true
	default:
		s.oauth = issued || s.home == nil
		s.static = len(s.options.BearerTokens) > 0 || !s.oauth
	}
	switch {
	case !s.oauth || issued || s.external():
		return nil
	case s.home == nil:
		return fmt.Errorf("nothing in this configuration is at the issuer %s, so nobody can get tokens. "+
			"Add a site: %s { mcp_auth }", s.issuerURL(), s.issuerURL())
	case s.home.options.AuthType == "bearer":
		return fmt.Errorf("auth_type %s needs tokens, and the site of the issuer issues none. "+
			"Write there: auth_type both", s.options.AuthType)
	}
	return fmt.Errorf("auth_type %s needs somebody who can sign in. Add a line with a hash of 'caddy hash-password', "+
		"for example: user alice $2a$14$…", s.options.AuthType)
}

// takesAPITokens reports whether tokens that are made by command are good for
// requests. They need no line of the configuration, other than bearer_token in
// which auth_type auto sees that static tokens are wanted.
func (s *site) takesAPITokens() bool { return s.options.AuthType != "oauth2.1" }

// issuesTokens reports whether a site has somebody to issue tokens to.
func (s *site) issuesTokens() bool {
	o := &s.options
	machines := slices.ContainsFunc(o.Clients, func(c Client) bool { return c.confidential() && len(c.grants()) > 0 }) ||
		o.Registration.ServiceAccounts == "open"
	return o.AuthType != "bearer" && (s.hasPeople() || machines)
}

// hasPeople reports whether the options know of somebody who can sign in.
func (s *site) hasPeople() bool { return len(s.options.Users) > 0 || len(s.logins) > 0 }

// signsIn reports whether people can get tokens for the site.
func (s *site) signsIn() bool {
	return s.oauth && (s.external() || s.home != nil && s.home.hasPeople())
}

// addResource adds a resource with the scopes of the given names, or all.
func (s *site) addResource(path, name string, names oauth.Scopes, group int) {
	r := &oauth.Resource{Origin: s.origin, Path: path, Name: name, Group: group}
	for _, sc := range s.scopes {
		if len(names) > 0 && !names.Has(sc.Name) {
			continue
		}
		r.Scopes = append(r.Scopes, sc.Name)
		if !sc.Optional {
			r.Baseline = append(r.Baseline, sc.Name)
		}
	}
	s.resources = append(s.resources, r)
}

// makeGate makes what checks the requests of the site.
func (s *site) makeGate(st *state) {
	cfg := gate.Config{
		Resources: s.resources, Policy: s.policy, Static: s.tokens, QueryToken: isSet(s.options.AllowQueryToken), Omit: s.omit,
		ResourcesOnly: s.handler.ResourcesOnly || len(s.options.Resources) > 0,
		CORSOrigins:   s.options.CORSOrigins, AllowOrigins: s.options.AllowOrigins,
		Limit:   s.issuer.Counts.Limit("mcp", s.options.RateLimits["mcp"].Max, time.Duration(s.options.RateLimits["mcp"].Window)),
		Streams: s.issuer.streams, StreamKeepAlive: time.Duration(s.options.StreamKeepAlive), Sessions: s.issuer.sessions, Cookies: authserver.CookieNames, Metrics: s.handler.app.metrics,
	}
	if s.takesAPITokens() {
		cfg.APITokens = s.apiTokens
	}
	for _, f := range s.options.Forward {
		f.Header = http.CanonicalHeaderKey(f.Header)
		s.forward = append(s.forward, f)
		cfg.ForwardHeaders = append(cfg.ForwardHeaders, f.Header)
	}
	s.makeLinks()
	for _, l := range s.links {
		cfg.ForwardHeaders = append(cfg.ForwardHeaders, l.headers()...)
	}
	if l, ok := cmp.Or(s.home, s).headerModule(); ok {
		cfg.ForwardHeaders = append(cfg.ForwardHeaders, l.headers()...)
	}
	switch {
	case s.external():
		var servers []external.Server
		servers, cfg.Issuers = s.options.otherServers()
		cfg.Verifier = external.New(st.others, servers, prepareBearer)
		cfg.AnyScope = len(s.scopes) == 0
	case s.oauth:
		cfg.Issuers, cfg.Verifier = []string{s.issuerURL()}, s.issuer.verifier
		// The server of the issuer is made after the gates.
		cfg.ClientScopes = func(ctx context.Context, clientID string) oauth.Scopes {
			return s.home.auth.ClientScopes(ctx, clientID)
		}
		cfg.StepUp = func(ctx context.Context, grantID string, needed oauth.Scopes) {
			s.home.auth.StepUp(ctx, grantID, needed)
		}
	}
	s.gate = gate.New(cfg)
}
